"""What stops a benchmark is said in three lines, as the tool says it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.worker.turns import EngineEnded


@contextmanager
def three_lines() -> Iterator[None]:
    """Ends the program with the exit code of an error that a person can do something about."""
    try:
        yield
    except EngineEnded as ended:
        said = str(ended).strip().splitlines() or ["it said nothing"]
        error = PlmEdgeError(
            "an engine ended while it was measured",
            said[-1],
            "repeat it with --quick; the engine's own words are above",
            ExitCode.INTERNAL,
        )
    except PlmEdgeError as known:
        error = known
    else:
        return
    print(f"error: {error.what}\n  why: {error.why}\n  fix: {error.fix}", file=sys.stderr)
    sys.exit(error.code)
