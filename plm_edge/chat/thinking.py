"""Some models think aloud before they answer, between `<think>` and `</think>`."""

from __future__ import annotations

BEGIN, END = "<think>", "</think>"


def without_thinking(answer: str) -> str:
    """Returns an answer without the thinking that it begins with.

    Thinking that was not finished stays: it is all that there is. Some templates write `<think>`
    themselves, so `</think>` alone ends it too.
    """
    head, end, rest = answer.partition(END)
    begun = head.lstrip().startswith(BEGIN) or BEGIN not in head
    return rest.lstrip("\n") if end and begun else answer


class ThinkingSplitter:
    """It tells thinking from the answer while both come in pieces.

    Attributes:
        thinking: what is fed now is thought, not answered.
    """

    def __init__(self) -> None:
        self.thinking = False
        self._at_begin = True
        self._held = ""  # may become a tag

    def feed(self, text: str) -> list[tuple[str, bool]]:
        """Returns what is certain with this piece: texts, and whether each is thinking."""
        text, self._held = self._held + text, ""
        parts: list[tuple[str, bool]] = []
        if self._at_begin:
            stripped = text.lstrip()
            if BEGIN.startswith(stripped[: len(BEGIN)]) and len(stripped) < len(BEGIN):
                self._held = text
                return []
            self._at_begin = False
            self.thinking = stripped.startswith(BEGIN)
        if self.thinking:
            before, end, after = text.partition(END)
            if end:
                self.thinking = False
                return [(before + end, True), (after, False)]
            held = next((n for n in range(len(END) - 1, 0, -1) if text.endswith(END[:n])), 0)
            self._held = text[len(text) - held :]
            text = text[: len(text) - held]
        parts.append((text, self.thinking))
        return parts

    def finish(self) -> list[tuple[str, bool]]:
        """Returns what was held back, at the end."""
        text, self._held = self._held, ""
        return [(text, self.thinking)]
