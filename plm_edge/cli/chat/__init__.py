"""`plm-edge chat` talks with a model in the terminal, or answers once in a pipe."""

from plm_edge.cli.chat.command import Chat, chat

__all__ = ["Chat", "chat"]
