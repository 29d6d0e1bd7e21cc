"""What the chat shows of itself: help, context, statistics, where a conversation goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from plm_edge.base import console
from plm_edge.base.errors import PlmEdgeError
from plm_edge.chat import commands, conversation, fit
from plm_edge.cli.run import result

if TYPE_CHECKING:
    from plm_edge.chat.attachment import Attachment
    from plm_edge.chat.chat import Chat

LAST_LINES = 6  # of an answer that are shown when its chat is opened again
_KEYS = (
    ("Enter", "send"),
    ("Alt-Enter, Ctrl-J", 'a new line; so does \\ at the end, and """ until the next'),
    ("Ctrl-X Ctrl-E", "write the message in your editor"),
    ("Ctrl-C", "stop the answer, which keeps its text; clear the prompt"),
    ("Ctrl-D", "leave"),
)


def begin_of(text: str, most: int = 60) -> str:
    """Returns the beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def show_help() -> None:
    """Print commands and keys."""
    table = console.table("", "")
    for command in commands.COMMANDS:
        name = f"{command.name} {command.argument}".strip()
        table.add_row(console.cell(name, "bold"), console.cell(command.help))
    for key, what in _KEYS:
        table.add_row(console.cell(key, "bold"), console.cell(what))
    console.err.print(table)


def show_opened(chat: Chat) -> None:
    """Print where a conversation goes on."""
    turns = chat.conversation.turns
    if not turns:
        return
    n_turns = f"{len(turns)} turn" + "s" * (len(turns) > 1)
    console.note(f"{chat.file.name}: {n_turns}; the last:")
    last = turns[-1]
    console.err.print(Text("> ", "bold"), Text(begin_of(last.question)), sep="")
    lines = last.answer.strip("\n").splitlines()
    if len(lines) > LAST_LINES:
        console.note("…")
    console.err.print(Text(console.printable("\n".join(lines[-LAST_LINES:]))))
    if last.interrupted:
        console.note("(it was stopped there)")
    console.err.print()


def show_files(chat: Chat, files: list[Attachment]) -> None:
    """Print what goes with the next message."""
    if not files:
        console.note("no file goes with the next message")
    for file in files:
        console.note(f"{file.name}: {chat.count(file.text):,} tokens, with the next message")


def check_fits(chat: Chat, file: Attachment, n_tokens: int) -> None:
    """Refuse a file that no context of this size takes.

    Raises:
        PlmEdgeError: it is too long.
    """
    room = fit.room_for_answer(chat.n_ctx)
    if n_tokens + room > chat.n_ctx:
        raise PlmEdgeError(
            f"{file.name} does not fit the context",
            f"it has {n_tokens:,} tokens; the context has {chat.n_ctx:,}, of which {room:,} are "
            "for the answer",
            f"cut out what matters, or begin with --ctx {-(-(n_tokens + 2 * room) // 256) * 256}",
        )


def show_context(chat: Chat) -> None:
    """Print how full the context is, and what goes next."""
    fullness = chat.fullness()
    talk = chat.conversation
    n_turns = len(talk.turns)
    table = console.table("", "", "", right=(1,))
    share = f"{100 * fullness.n_used / fullness.n_ctx:.0f} % of {fullness.n_ctx:,} tokens"
    rows = [("context", f"{fullness.n_used:,}", share)]
    if talk.system:
        system = f"{chat.count(talk.system, 'system'):,}"
        rows.append(("system", system, f"tokens, never dropped: {begin_of(talk.system)}"))
    sent = f"of {n_turns:,} go to the model"
    rows.append(("turns", f"{n_turns - talk.n_dropped:,}", sent))
    if fullness.next_turn:
        turn, n_tokens = fullness.next_turn
        rows.append(("goes next", f"{n_tokens:,}", f"tokens: {begin_of(turn.question)}"))
    if chat.last:
        used = console.size(chat.last.kv_bytes_per_token * fullness.n_used)
        allocated = console.size(chat.last.kv_bytes_allocated)
        rows.append(("KV cache", used, f"used of {allocated} ({chat.last.kv_type})"))
    for name, value, detail in rows:
        table.add_row(Text(name, "dim"), Text(value, "bold"), console.cell(detail, "dim"))
    console.err.print(table)
    if fullness.next_turn:
        free = fullness.n_ctx - fullness.n_used
        strict = "then it is an error (--strict)" if chat.setting.strict else "then turns go"
        room = fit.room_for_answer(chat.n_ctx)
        console.note(f"{free:,} tokens are free; below {room:,}, {strict}")


def show_stats(chat: Chat) -> None:
    """Print what the last answer took, and all answers of the chat together."""
    figures = [turn.figures for turn in chat.conversation.turns if turn.figures]
    if not figures:
        console.note("no answer yet")
        return
    if chat.last:
        console.note("the last answer:")
        result.show_stats(chat.last)
        console.err.print()
    console.note(f"the whole chat, {len(figures):,} answer" + "s" * (len(figures) > 1) + ":")
    whole = conversation.total(figures)
    n_steps = sum(max(0, f.n_generated - 1) for f in figures)
    rows = [
        ("TTFT", "-" if whole.ttft_s is None else console.duration(whole.ttft_s), "on average"),
        (
            "prefill",
            _rate(whole.n_computed, whole.prefill_s),
            _tokens(whole.n_computed, whole.prefill_s),
        ),
        ("decode", _rate(n_steps, whole.decode_s), _tokens(whole.n_generated, whole.decode_s)),
    ]
    if reused := whole.n_prompt - whole.n_computed:
        rows.insert(2, ("reused", f"{reused:,} tokens", "of the prompts, from a cache"))
    if whole.n_drafted:
        right = f"of {whole.n_drafted:,} guesses right"
        share = f"({100 * whole.n_accepted / whole.n_drafted:.0f} %)"
        rows.append(("guessed", f"{whole.n_accepted:,} tokens", f"{right} {share}"))
    if whole.zero_rows is not None:
        rows.append(("zero rows", f"{100 * whole.zero_rows:.0f} %", "of W_down not read (mean)"))
    table = console.table("", "", "", right=(1,))
    for name, value, detail in rows:
        table.add_row(Text(name, "dim"), Text(value, "bold"), Text(detail, "dim"))
    console.err.print(table)


def _rate(n_tokens: int, seconds: float) -> str:
    return f"{n_tokens / seconds:,.1f} t/s" if n_tokens and seconds else "-"


def _tokens(n_tokens: int, seconds: float) -> str:
    return f"{n_tokens:,} tokens in {console.duration(seconds)}"
