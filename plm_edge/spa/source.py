"""Where a device gets frames from: `remote` is a server, `here` the same base on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from plm_edge.generate.prompt import Prompt
from plm_edge.spa.wire import Frame

OPENING_RETRY_S = 15.0
"""Seconds for which a text is begun again whose link was lost before it had any."""
Found = TypeVar("Found")


class LinkLost(Exception):
    """The server does not answer any more."""


class NotThere(LinkLost):
    """There is no such server: whoever asked for it is told at once."""


def begun(do: Callable[[], Found]) -> Found:
    """Returns what `do` returns, which begins something on a server. Where the link is lost, it is
    done again.

    Raises:
        LinkLost: for OPENING_RETRY_S, or there was no server to begin with.
    """
    try:
        return do()
    except NotThere:
        raise
    except LinkLost:
        return insisted(do, time.monotonic() + OPENING_RETRY_S)


def insisted(do: Callable[[], Found], until: float) -> Found:
    """Returns what `do` returns, which is done until the link is not lost.

    Args:
        until: of the monotonic clock.

    Raises:
        LinkLost: it was lost until then.
    """
    wait = 0.1
    while True:
        try:
            return do()
        except LinkLost:
            if time.monotonic() + wait > until:
                raise
        time.sleep(wait)
        wait = min(2 * wait, 1.0)  # a signal is looked at in between


class Source(Protocol):
    """Frames of a text, one position after the other.

    Attributes:
        length: most tokens of a text, once one is open or encoded.
        drawing: temperature and seed of the base's choices in texts that are opened from now on.
    """

    length: int
    drawing: tuple[float, int]

    def encode(self, what: int, text: str) -> Prompt:
        """Returns the tokens of a text; what it is, `wire.Encode` says.

        Raises:
            LinkLost: the server cannot be reached.
            PlmEdgeError: it is none for this base.
        """
        ...

    def open(self, text: str, made: Sequence[int]) -> list[int]:
        """Begin a text; the one before is over.

        Args:
            text: the prompt.
            made: tokens that follow it; without a text all of the prompt.

        Returns:
            All its tokens.
        """
        ...

    def frame(self, position: int) -> Frame:
        """Returns the frame of a position, which follows the last one.

        Raises:
            LinkLost: it does not come.
        """
        ...

    def override(self, position: int, token: int) -> None:
        """Put another token than the base's at the position of the last frame."""
        ...

    def close(self) -> None:
        """End the text."""
        ...
