"""An answer is generated, kept in its turn, and saved while it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from plm_edge.chat.conversation import Figures, Turn, total
from plm_edge.generate.protocol import StopReason

if TYPE_CHECKING:
    from plm_edge.generate.protocol import Generation
    from plm_edge.generate.stats import Stats

# A save each half second, and with each piece where these come slower than four a second: what is
# not saved yet is less than a second old.
SAVE_EVERY, SLOW = 0.5, 0.25


class Answer:
    """The answer to a turn's question. Iterate it once for the text, as it comes.

    When the context fills up meanwhile, `make_room` may give a shorter prompt to go on from.

    Args:
        turn: takes the text.
        generation: makes it.
        save: writes the conversation; is told whether the disk must have it.
        make_room: returns a generation that goes on with the answer, or None.

    Attributes:
        n_dropped: so many of the oldest turns made room for it, before it began and since.
        stats: what it took; None before it has ended. With several generations, their last.
    """

    def __init__(
        self,
        turn: Turn,
        generation: Generation,
        save: Callable[[bool], None],
        make_room: Callable[[], Generation | None],
        n_dropped: int,
    ) -> None:
        self.turn = turn
        self.n_dropped = n_dropped
        self.stats: Stats | None = None
        self._generation, self._save, self._make_room = generation, save, make_room

    @property
    def stop_reason(self) -> StopReason | None:
        """Why it ended; None while it goes on."""
        return self.turn.stop_reason

    def __iter__(self) -> Iterator[str]:
        reason: StopReason = "interrupted"  # unless it comes to its end
        figures: list[Figures] = []
        try:
            while True:
                yield from self._texts()
                more = None
                if self._generation.stop_reason == "context":
                    more = self._make_room()
                if more is None:
                    break
                figures.append(Figures.of(self._generation.stats))
                self._generation = more
            reason = self._generation.stop_reason or "interrupted"
        finally:
            self.stats = self._generation.stats
            self.turn.stop_reason = reason
            figures.append(Figures.of(self.stats))
            self.turn.figures = replace(total(figures), ttft_s=figures[0].ttft_s)
            self._save(True)

    def _texts(self) -> Iterator[str]:
        saved = last = time.monotonic()
        for text in self._generation:
            self.turn.answer += text
            now = time.monotonic()
            if now - saved >= SAVE_EVERY or now - last >= SLOW:
                self._save(False)
                saved = now
            last = now
            yield text
