"""This module runs cmake, logs its output, reports its progress, and shortens its errors.

No compiler outlives the program that wanted it, whether that ends by an error, Ctrl-C, SIGTERM, or
with its terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from plm_edge.base.errors import ExitCode, PlmEdgeError

Progress = Callable[[int, int, str], None]  # steps done, of all, the file at work
_STEP = re.compile(r"^\[(\d+)/(\d+)\] (?:\S+ )*(\S+)$")
_ERROR = re.compile(r"(?:fatal )?error\b[:\s]|CMake Error|undefined (?:reference|symbol)", re.I)
_AROUND = 3  # lines after each error
_GRACE = 10  # seconds for compilers to end by themselves


class BuildFailed(PlmEdgeError):
    """cmake or the compiler failed. `lines` holds the compiler's error messages."""

    lines: tuple[str, ...] = ()


def run(
    device: str,
    command: Sequence[str],
    environment: dict[str, str],
    log: Path,
    progress: Progress | None = None,
) -> None:
    """Run one command of a build.

    Args:
        device: what the build is for; the error names it.
        command: a program and its arguments.
        environment: variables to add to those of this process.
        log: the file to which the output is appended.
        progress: is called at each step of ninja with the steps done, all steps, and the file.

    Raises:
        BuildFailed: the command ended with an error.
        SystemExit: this program received SIGTERM or SIGHUP.
    """
    tail: list[str] = []
    with _signals_as_exit(), log.open("a", encoding="utf-8", buffering=1) as file:
        file.write(f"$ {' '.join(command)}\n")
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that one signal ends the whole group
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                tail = [*tail[-400:], line.rstrip()]
                step = _STEP.match(line.rstrip())
                if step and progress:
                    progress(int(step[1]), int(step[2]), Path(step[3]).name)
            code = process.wait()
        finally:
            if process.poll() is None:
                _end(process)
    if code:
        raise _failed(device, tail, log, code)


@contextlib.contextmanager
def _signals_as_exit() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit: by default they would leave the compilers running.

    This does nothing off the main thread, or where the program handles or ignores a signal already.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    taken = []
    if threading.current_thread() is threading.main_thread():
        numbers = (signal.SIGTERM, signal.SIGHUP)
        taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _end(process: subprocess.Popen[str]) -> None:
    """End the command and its process group; ninja then ends the groups of its compilers."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return


def _failed(device: str, tail: list[str], log: Path, code: int) -> BuildFailed:
    lines = error_lines(tail)
    first = next((line.strip() for line in lines if line.strip()), f"it ended with {code}")
    error = BuildFailed(
        f"the engine for {device} does not build",
        first,
        f"the whole log: {log}",
        ExitCode.ENVIRONMENT,
    )
    error.lines = tuple(lines)
    return error


def error_lines(output: Sequence[str]) -> list[str]:
    """The last five error lines, each with the two lines after it; without errors, the last ten."""
    at = [index for index, line in enumerate(output) if _ERROR.search(line)][-5:]
    wanted = sorted({index + more for index in at for more in range(_AROUND)})
    found = [output[index] for index in wanted if index < len(output)]
    return [line for line in found if not _STEP.match(line)] or list(output[-10:])
