"""A text decoder turns the bytes of tokens into whole characters, up to a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextDecoder:
    """Text of the bytes that are fed to it, piece by piece.

    A character of several bytes may be split over tokens, and a stop string over pieces: what may
    still become one is held back until it is clear.

    Args:
        stop: strings of at least a character that end the text; they are no part of it.

    Attributes:
        stopped: a stop string was found; nothing more comes.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""  # may be the beginning of a stop string

    def feed(self, piece: bytes) -> str:
        """Returns the text that is certain with this piece; empty when there is none."""
        return self._up_to_stop(self._decoder.decode(piece))

    def finish(self) -> str:
        """Returns what was held back, at the end; half a character becomes U+FFFD."""
        text = self._up_to_stop(self._decoder.decode(b"", final=True))
        text, self._held = text + self._held, ""
        return text

    def _up_to_stop(self, text: str) -> str:
        if not self._stop:
            return text
        if self.stopped:
            return ""
        text = self._held + text
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        n_held = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` with which `stop` begins; less than all of it."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
