"""What a failed build says, and how far a build is."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.building import cmake
from plm_edge.errors import ExitCode


def test_progress_and_log(tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    script = "echo -- configuring; "
    script += r"printf '[1/2] Building x a/c.cpp.o\n[2/2] Linking x\n'; echo $NAME"
    command, extra = ["sh", "-c", script], {"NAME": "value"}
    cmake.run("pi", command, extra, tmp_path / "log", lambda *step: steps.append(step))
    assert steps == [(1, 2, "c.cpp.o"), (2, 2, "x")]
    log = (tmp_path / "log").read_text()
    assert log.startswith("$ sh -c")
    assert log.endswith("value\n")


def test_a_compiler_error_is_told(tmp_path: Path) -> None:
    output = "[7/9] Building CXX object x.o\nFAILED: x.o\n/a/x.cpp:3:1: error: no such thing\n  here\n   ^\nninja: stopped"  # noqa: E501
    (tmp_path / "output").write_text(output)
    with pytest.raises(cmake.BuildFailed) as caught:
        cmake.run("pi", ["sh", "-c", f"cat {tmp_path}/output; exit 1"], {}, tmp_path / "log")
    error = caught.value
    assert error.what == "the engine for pi does not build"
    assert error.why == "/a/x.cpp:3:1: error: no such thing"
    assert str(tmp_path / "log") in error.fix
    assert error.code == ExitCode.ENVIRONMENT
    assert error.lines == ("/a/x.cpp:3:1: error: no such thing", "  here", "   ^")


def test_without_an_error_line_the_end_is_told() -> None:
    assert cmake.said([f"line {index}" for index in range(30)])[-1] == "line 29"
    assert cmake.said([]) == []


def test_cmakes_own_errors() -> None:
    output = ["-- looking", "CMake Error at CMakeLists.txt:7 (message):", "  no source", ""]
    assert cmake.said(output)[:2] == output[1:3]
