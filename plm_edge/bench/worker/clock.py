"""The program's clock starts where it likes; the meters are read by this machine's."""

from __future__ import annotations

import time


class Clock:
    """Translates the program's times to `time.monotonic()` here.

    Each event says when it was sent. None can be heard before that, so the one that came fastest
    says best how far the two clocks are apart; that way's time is what the result is off by.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None  # our clock minus the program's, at most

    def hear(self, sent: float) -> None:
        """An event that was sent at this time of the program's is heard now."""
        apart = time.monotonic() - sent
        self._ahead = apart if self._ahead is None else min(self._ahead, apart)

    def here(self, there: float) -> float:
        """A time of the program's by this machine's clock, in seconds."""
        return there + (self._ahead or 0.0)
