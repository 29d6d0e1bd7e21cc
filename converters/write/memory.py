"""This module checks, before a conversion begins, that there is memory for it.

Half-way the system would end it without a word.

Imports no numpy: where memory is that short, numpy ends the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.machine.memory import available

# For what the allocator, the threads' stacks and the checks afterwards take besides.
SLACK = 48 << 20
# What a conversion of PLM-1.8B takes in all with two threads (benchmarks/convert.py saw 140 MiB),
# and what starting takes, mostly address space for numpy.
USUAL = 256 << 20
START = 128 << 20


def check_start() -> None:
    """Refuse to begin where there is not even memory to read a checkpoint's header.

    Raises:
        PlmEdgeError: there is not (code RESOURCES).
    """
    free, who = available()
    if free < START:
        raise _short(f"PLM-1.8B takes about {_mib(USUAL)}, and {who} leaves {_mib(free)}")


def check_memory(buffers: int, threads: int, taken: int) -> None:
    """Refuse a conversion that needs more memory than there is.

    Args:
        buffers: bytes that each thread will take.
        taken: bytes that the process has taken already.

    Raises:
        PlmEdgeError: it does (code RESOURCES).
    """
    growth = threads * buffers + SLACK
    free, who = available()
    if growth > free:
        raise _short(
            f"it needs {_mib(taken + growth)} with {threads} threads, {_mib(growth)} of it from "
            f"now on, and {who} leaves {_mib(free)}"
        )


@contextmanager
def out_of_memory() -> Iterator[None]:
    """A limit that is reached before anything can be foreseen, as an error of ours."""
    try:
        yield
    except MemoryError:
        raise _short(f"an allocation failed; PLM-1.8B takes about {_mib(USUAL)}") from None


def _short(why: str) -> PlmEdgeError:
    return PlmEdgeError(
        "not enough memory for this conversion",
        why,
        "take fewer --threads, close other programs, or raise the limit",
        ExitCode.RESOURCES,
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
