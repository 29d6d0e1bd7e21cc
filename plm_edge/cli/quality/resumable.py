"""Ctrl-C in a command that goes on where it was when it is run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plm_edge.base import console
from plm_edge.engine.interrupt import Interrupt


@contextmanager
def interrupt() -> Iterator[Interrupt]:
    """Yields what says whether to stop; what was stopped by it is told how to go on.

    Raises:
        KeyboardInterrupt: as it came.
    """
    try:
        with Interrupt() as stop:
            yield stop
    except KeyboardInterrupt:
        console.note("interrupted; the same command goes on where it was")
        raise
