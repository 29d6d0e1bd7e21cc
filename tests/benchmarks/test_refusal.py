"""A benchmark that cannot go on says so in three lines and an exit code."""

from __future__ import annotations

import pytest

from benchmarks.refusal import three_lines
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.worker.turns import EngineEnded


def refused(error: Exception, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended, three_lines():
        raise error
    assert isinstance(ended.value.code, int)
    return ended.value.code, capfd.readouterr().err


def test_an_error_is_said_as_the_tool_says_it(capfd: pytest.CaptureFixture[str]) -> None:
    error = PlmEdgeError("no room", "it has 1 GB", "free some", ExitCode.RESOURCES)
    assert refused(error, capfd) == (5, "error: no room\n  why: it has 1 GB\n  fix: free some\n")


def test_an_engine_that_ended_is_said_by_its_last_words(capfd: pytest.CaptureFixture[str]) -> None:
    code, said = refused(EngineEnded("loading\nGGML_ASSERT(x) failed\n"), capfd)
    assert code == ExitCode.INTERNAL
    assert said.splitlines()[:2] == [
        "error: an engine ended while it was measured",
        "  why: GGML_ASSERT(x) failed",
    ]


def test_a_bug_stays_a_traceback() -> None:
    with pytest.raises(ZeroDivisionError), three_lines():
        raise ZeroDivisionError
