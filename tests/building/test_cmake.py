"""What a failed build says, how far a build is, and that none outlives who wanted it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from plm_edge.base.errors import ExitCode
from plm_edge.building import cmake, tools
from testkit.checkout import ROOT


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
    assert cmake.error_lines([f"line {index}" for index in range(30)])[-1] == "line 29"
    assert cmake.error_lines([]) == []


def test_cmakes_own_errors() -> None:
    output = ["-- looking", "CMake Error at CMakeLists.txt:7 (message):", "  no source", ""]
    assert cmake.error_lines(output)[:2] == output[1:3]


@pytest.fixture
def compiling(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[psutil.Process]]]:
    """A program that waits for ninja, and the two compilers that ninja waits for."""
    rule = "rule long\n command = sleep 600\n"
    (tmp_path / "build.ninja").write_text(rule + "build a: long\nbuild b: long\n")
    ninja = [str(tools.build_tool("ninja")), "-C", str(tmp_path), "-j", "2"]
    calls = (
        "from pathlib import Path; from plm_edge.building import cmake; "
        f"cmake.run('pi', {ninja}, {{}}, Path({str(tmp_path / 'log')!r}))"
    )
    program = subprocess.Popen([sys.executable, "-c", calls], cwd=ROOT)
    until = time.monotonic() + 60
    found: list[psutil.Process] = []
    while [process.name() for process in found].count("sleep") < 2:
        assert program.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
        found = psutil.Process(program.pid).children(recursive=True)
    yield program, found
    program.kill()
    program.wait()
    for process in found:
        if process.is_running():
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_compilers_end_with_the_program(
    number: signal.Signals,
    compiling: tuple[subprocess.Popen[bytes], list[psutil.Process]],
) -> None:
    program, compilers = compiling
    program.send_signal(number)
    assert program.wait(60) in (128 + number, -number)  # Python itself ends by SIGINT as a signal
    _, alive = psutil.wait_procs(compilers, timeout=20)
    assert not alive
