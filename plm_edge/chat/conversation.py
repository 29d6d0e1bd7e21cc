"""A conversation is a system message and turns; each turn is a question and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from plm_edge.chat.thinking import without_thinking
from plm_edge.generate.protocol import Message, StopReason, Text
from plm_edge.generate.stats import Stats


@dataclass
class Figures:
    """What one answer took, small enough to be kept with it: tokens and seconds.

    Attributes:
        n_prompt: tokens of the prompt.
        n_computed: those of them that `prefill_s` covers: others were in a cache already.
        n_drafted: tokens that were guessed and checked.
        n_accepted: those of them that were right.
        zero_rows: the share of W_down's rows that were not read; None where nobody knows.
    """

    n_prompt: int
    n_computed: int
    prefill_s: float
    n_generated: int
    decode_s: float
    ttft_s: float | None = None
    n_drafted: int = 0
    n_accepted: int = 0
    zero_rows: float | None = None

    @classmethod
    def of(cls, stats: Stats) -> Figures:
        """Returns the part of a generation's statistics that is kept."""
        return cls(
            n_prompt=stats.n_prompt,
            n_computed=round((stats.prefill_tps or 0.0) * stats.prefill_s),
            prefill_s=stats.prefill_s,
            n_generated=stats.n_generated,
            decode_s=stats.decode_s,
            ttft_s=stats.ttft_s,
            n_drafted=stats.n_drafted,
            n_accepted=stats.n_accepted,
            zero_rows=stats.zero_rows,
        )


def total(figures: Sequence[Figures]) -> Figures:
    """Returns the figures of several generations together, the time to the first token averaged."""
    ttft = [part.ttft_s for part in figures if part.ttft_s is not None]
    zeros = [
        (part.zero_rows, part.n_computed + part.n_generated)
        for part in figures
        if part.zero_rows is not None
    ]
    n_tokens = sum(n for _, n in zeros)
    return Figures(
        n_prompt=sum(part.n_prompt for part in figures),
        n_computed=sum(part.n_computed for part in figures),
        prefill_s=sum(part.prefill_s for part in figures),
        n_generated=sum(part.n_generated for part in figures),
        decode_s=sum(part.decode_s for part in figures),
        ttft_s=sum(ttft) / len(ttft) if ttft else None,
        n_drafted=sum(part.n_drafted for part in figures),
        n_accepted=sum(part.n_accepted for part in figures),
        zero_rows=sum(share * n for share, n in zeros) / n_tokens if n_tokens else None,
    )


@dataclass
class Turn:
    """A question and its answer.

    Attributes:
        question: as it was sent, with the files that were added to it.
        answer: what the model wrote so far.
        stop_reason: why the answer ended; None while it is written, or when the program was killed
            meanwhile.
        figures: what the answer took; None until it has ended.
        n_dropped: `Conversation.n_dropped` before it was asked.
    """

    question: str
    answer: str = ""
    stop_reason: StopReason | None = None
    figures: Figures | None = None
    n_dropped: int = 0

    @property
    def interrupted(self) -> bool:
        """Whether the answer was stopped by the person, or by the end of the program."""
        return self.stop_reason in (None, "interrupted")


@dataclass
class Conversation:
    """A conversation.

    Attributes:
        turns: all of them, the oldest first; the last may still be answered.
        system: what the model is told before all turns; empty: nothing.
        n_dropped: so many of the oldest turns no longer go to the model, for lack of room.
        plain: the model has no chat template: it continues the growing text.
    """

    turns: list[Turn] = field(default_factory=list)
    system: str = ""
    n_dropped: int = 0
    plain: bool = False

    def prompt(self, n_dropped: int) -> Text | list[Message]:
        """Returns what the model is given when so many of the oldest turns are left out.

        It ends with the last turn's question, and leaves out an answer to that. Finished thinking
        is left out of earlier answers, as the models that think are trained to have it.

        Returns:
            Messages; the growing text where the model continues one.
        """
        kept = self.turns[n_dropped:]
        if self.plain:
            return text_of(self.system, kept)
        messages: list[Message] = []
        if self.system:
            messages.append({"role": "system", "content": self.system})
        for turn in kept:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": without_thinking(turn.answer)})
        return messages[:-1] if kept else messages

    def undo(self) -> Turn | None:
        """Take the last turn back and return it; None if there is none.

        Older turns that made room for it go to the model again.
        """
        if not self.turns:
            return None
        turn = self.turns.pop()
        self.n_dropped = max(0, min(turn.n_dropped, len(self.turns)))
        return turn


def text_of(system: str, turns: Sequence[Turn]) -> Text:
    """Returns the text that a model without a chat template continues.

    Questions and answers stand one after the other as they were written. A text that the model
    itself ended is followed by a new line, and so is the system's.
    """
    parts: list[Message] = []

    def add(role: str, content: str) -> None:
        parts.append({"role": role, "content": content})

    if system:
        add("system", f"{system}\n\n")
    for turn in turns[:-1]:
        add("user", turn.question)
        add("assistant", turn.answer)
        if turn.stop_reason == "end" and not Text(parts).endswith("\n"):
            add("user", "\n")
    if turns:
        add("user", turns[-1].question)
    return Text(parts)
