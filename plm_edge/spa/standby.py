"""The base here, loaded and filled beside a server: where that is lost, it goes on at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from plm_edge.spa.base import TOGETHER
from plm_edge.spa.here import Here


class Standby:
    """A base that a thread loads, and that computes a text as a server has it.

    It does so by whole batches, as a prompt is computed: that takes less than the server's steps.

    Args:
        load: loads the base.

    Attributes:
        filled: tokens of the text that the base has.
    """

    def __init__(self, load: Callable[[], Here]) -> None:
        self._load = load
        self._here: Here | None = None
        self._error: Exception | None = None
        self._tokens: list[int] = []
        self._drawing = 0.0, 0
        self._text = 0  # counts the texts
        self.filled = 0
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, tokens: Sequence[int], drawing: tuple[float, int]) -> None:
        """Another text begins.

        Args:
            drawing: as `Source.drawing`.
        """
        with self._changed:
            self._tokens, self.filled, self._drawing = list(tokens), 0, drawing
            self._text += 1
            self._changed.notify()

    def follow(self, tokens: Sequence[int]) -> None:
        """The text goes on."""
        with self._changed:
            self._tokens += tokens
            self._changed.notify()

    def take(self) -> Here:
        """Returns the base, which has all of the text, if one was begun. The caller closes it.

        Raises:
            PlmEdgeError: it cannot be loaded, or cannot compute the text.
        """
        self._end()
        if self._error is not None:
            raise self._error
        assert self._here is not None
        if self.filled < len(self._tokens):
            try:
                self._compute(self._here, self._tokens[self.filled :])
            except BaseException:
                self.filled = 0  # who asks again gets it from the beginning
                raise
        taken, self._here = self._here, None
        return taken

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
            while job := self._next():
                text, part = job
                self._compute(self._here, part)
                with self._changed:
                    if text == self._text:
                        self.filled += len(part)
        except Exception as error:  # whatever it is, who takes the base is told
            self._error = error

    def _compute(self, here: Here, part: list[int]) -> None:
        if self.filled:
            here.follow(part)
        else:
            here.drawing = self._drawing
            here.begin(part)

    def _next(self) -> tuple[int, list[int]] | None:
        """Waits for a batch, and returns which text it is of, and its tokens; None: it is over."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._over or len(self._tokens) - self.filled >= TOGETHER
            )
            part = self._tokens[self.filled : self.filled + TOGETHER]
            return None if self._over else (self._text, part)
