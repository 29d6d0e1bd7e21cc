"""In a pipe, `plm-edge chat` reads one question from stdin, answers it and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli.chat import remarks
from plm_edge.cli.chat.screen import Screen
from plm_edge.cli.run import output, result
from plm_edge.cli.run import prompt as prompts

if TYPE_CHECKING:
    from plm_edge.chat.chat import Chat
    from plm_edge.generate.protocol import StopReason


def read_question() -> str:
    """Returns what stdin says, without the newline at its end.

    Raises:
        PlmEdgeError: it is empty, or not UTF-8 (code USAGE).
    """
    text = prompts.read("-", None)
    question = text.removesuffix("\n")
    if not question.strip():
        raise PlmEdgeError(
            "there is no question",
            "stdin is no terminal, and it is empty",
            "pipe a question in, or call plm-edge chat in a terminal",
            ExitCode.USAGE,
        )
    return question


def answer(chat: Chat, question: str, *, stats: bool) -> StopReason | None:
    """Write the answer to stdout, and return why it ended.

    Raises:
        PlmEdgeError: the question does not fit the context, or the engine failed.
    """
    screen = Screen()
    with output.reading() as chat.on_prefill:
        reply = chat.ask(question)
        try:
            for text in reply:
                screen.write(text)
        except KeyboardInterrupt:  # a second Ctrl-C; the answer kept its text
            pass
    screen.finish()
    remarks.after(chat, reply)
    if stats and reply.stats:
        result.show_stats(reply.stats)
    return reply.stop_reason
