"""Where a device gets frames from: `remote` is a server, `here` the same base on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from plm_edge.generate.prompt import Prompt
from plm_edge.spa.wire import Frame


class LinkLost(Exception):
    """The server does not answer any more."""


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
