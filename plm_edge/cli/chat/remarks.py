"""What a person is told after an answer: why it ended, and what made room for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plm_edge.base import console

if TYPE_CHECKING:
    from plm_edge.chat.answer import Answer
    from plm_edge.chat.chat import Chat


def after(chat: Chat, answer: Answer) -> None:
    """Print it, on stderr; nothing where the model ended its answer by itself."""
    dropped(chat, answer.n_dropped)
    if answer.stop_reason == "context":
        console.warn(
            f"stopped: the context of {chat.n_ctx:,} tokens is full (--ctx raises it, /new begins "
            "another chat)"
        )
    elif answer.stop_reason == "interrupted" and answer.turn.answer:
        console.note("stopped; what it wrote stays")
    elif answer.stop_reason == "length" and not chat.conversation.plain:
        console.note(f"stopped after {chat.setting.n_predict:,} tokens (-n)")


def dropped(chat: Chat, n_new: int) -> None:
    """Print how many turns made room, if any did."""
    if n_new:
        what = "the oldest turn" if n_new == 1 else f"the {n_new} oldest turns"
        goes = "goes" if n_new == 1 else "go"
        console.warn(
            f"context full: {what} no longer {goes} to the model ({turns(chat)}; all of it "
            "stays in the file)"
        )


def turns(chat: Chat) -> str:
    """Words how many of the turns go to the model."""
    conversation = chat.conversation
    n_turns = len(conversation.turns)
    return f"{n_turns - conversation.n_dropped} of {n_turns} do"
