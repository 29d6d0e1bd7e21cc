"""Whoever does something long says how far it is through a `Progress`."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Who wants to know how far something is. Called from the thread that does it."""

    def begin(self, total: int) -> None:
        """Called once, with the bytes that will be read."""

    def advance(self, count: int) -> None:
        """Called with the bytes that were read since the last call."""


class NoProgress:
    """A `Progress` for someone who does not want to know."""

    def begin(self, total: int) -> None:
        """See `Progress`."""

    def advance(self, count: int) -> None:
        """See `Progress`."""
