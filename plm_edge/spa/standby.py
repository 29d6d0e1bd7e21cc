"""The base here, loaded and filled beside a server: where that is lost, it goes on at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from plm_edge.spa.base import TOGETHER
from plm_edge.spa.source import Here


class Standby:
    """A base that a thread loads, and that computes a text as a server has it.

    It does so by whole batches, as a prompt is computed: that takes less than the server's steps.

    Args:
        load: loads the base.
    """

    def __init__(self, load: Callable[[], Here]) -> None:
        self._load = load
        self._here: Here | None = None
        self._error: Exception | None = None
        self._tokens: list[int] = []
        self.filled = 0  # of them
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def follow(self, tokens: Sequence[int]) -> None:
        """Some more tokens of the text; the first ones begin it."""
        with self._changed:
            self._tokens += tokens
            self._changed.notify()

    def take(self) -> tuple[Here, int]:
        """Returns the base, and how many tokens of the text it has; 0: none was begun. The caller
        closes it.

        Raises:
            PlmEdgeError: it cannot be loaded, or cannot compute the text.
        """
        self._end()
        if self._error is not None:
            raise self._error
        assert self._here is not None
        if self.filled < len(self._tokens):
            self._here.follow(self._tokens[self.filled :])
        taken, self._here = self._here, None
        return taken, len(self._tokens)

    def close(self) -> None:
        """Free the base. Safe to call twice, and after `take`."""
        self._end()
        if self._here is not None:
            self._here.close()
            self._here = None

    def _end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._here = self._load()
            while part := self._next():
                self._here.follow(part)
                self.filled += len(part)
        except Exception as error:  # whatever it is, who takes the base is told
            self._error = error

    def _next(self) -> list[int]:
        """Waits for a batch; empty when it is over."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._over or len(self._tokens) - self.filled >= TOGETHER
            )
            return [] if self._over else self._tokens[self.filled : self.filled + TOGETHER]
