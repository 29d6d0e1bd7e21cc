"""plm-edge-bench on this machine: where it lies, whose libraries it computes with, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from plm_edge.base import place
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.worker.client import PROGRAM, SMALLER, Answers, Request, encode
from plm_edge.bench.worker.events import Event
from plm_edge.engine import library

_PATH = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"


def program() -> Path:
    """Where the program lies: beside the engine's libraries, or in bin/ beside their lib/.

    Raises:
        PlmEdgeError: it is not there (code ENVIRONMENT).
    """
    folder = library.find()
    places = [folder, folder.parent / "bin", place.PACKAGE / "bin"]
    for one in places:
        if (one / PROGRAM).is_file():
            return one / PROGRAM
    raise PlmEdgeError(
        "nothing can be measured here",
        f"{PROGRAM} is not in {', '.join(map(str, places))}",
        "build it: `make engine` in a checkout, else `pip install --force-reinstall plm-edge`",
        ExitCode.ENVIRONMENT,
    )


def environment(engine: Path | None) -> dict[str, str]:
    """Variables with which the program computes by an engine.

    Args:
        engine: a folder with stock llama.cpp's libraries; None: ours, checked.

    Raises:
        PlmEdgeError: it is not there, or ours is of another version or for another CPU.
    """
    folder = engine or library.load().folder
    if not [*folder.glob("libllama.*")]:
        raise PlmEdgeError(
            "the llama.cpp to compare with is not there",
            f"no libllama in {folder}",
            f"remove {folder} and let it be built again",
            ExitCode.ENVIRONMENT,
        )
    before = os.environ.get(_PATH)
    # no backtrace: where gdb is installed an abort would start it, and print pages of stack
    return {
        _PATH: f"{folder}{os.pathsep}{before}" if before else str(folder),
        "GGML_NO_BACKTRACE": "1",
    }


class Process:
    """The program with one engine, asked one thing after another; to be used in `with`.

    Args:
        engine: as in `environment`.
        variables: more of them.

    Attributes:
        peak_rss_bytes: by getrusage, so at least what this process had when it started the program
            (the program's event `memory` has VmHWM); known after `close`.
    """

    def __init__(
        self, engine: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(program())]
        self.peak_rss_bytes = 0
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the process
        self._log: bytes | None = None  # all of it, once the process has ended
        self._process = subprocess.Popen(
            self.command,
            env={**os.environ, **environment(engine), **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._process.returncode is None:
            self._process.kill()
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> bytes:
        """What came on stderr so far."""
        if self._log is not None:
            return self._log
        file = self._complaints.fileno()
        return os.pread(file, os.fstat(file).st_size, 0)

    def send(self, requests: Sequence[Request]) -> None:
        """Ask for something; what it answers comes by `read`."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died: its exit code says why
            self._process.stdin.write(encode(requests))
            self._process.stdin.flush()

    def read(self) -> Event | None:
        """The next event; None where the program has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def finish(self, answers: Answers) -> int:
        """Ask for nothing more, and hear the rest; the exit code, -n for signal n."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        for line in self._process.stdout:
            answers.out(line)
        return self.close()

    def close(self) -> int:
        """Let the program end, and wait for it; its exit code. Twice does no more."""
        if self._process.returncode is None:
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(BrokenPipeError):
                    stream.close()  # type: ignore[union-attr]
            _, status, usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self.peak_rss_bytes = usage.ru_maxrss * 1024  # Linux counts in KiB
            self._log = self.log
            self._complaints.close()
        return self._process.returncode


def ask(requests: Sequence[Request]) -> list[Event]:
    """Ask our engine here, and wait for all answers.

    Raises:
        PlmEdgeError: the program's own error, or it died.
    """
    answers = Answers()
    with Process() as process:
        process.send(requests)
        code = process.finish(answers)
        answers.err(process.log)
    if answers.error:
        raise answers.error
    if code:
        raise died(code, answers.complaint, "measuring the machine") from answers.cause
    return answers.events


def died(code: int, complaint: str, what: str) -> PlmEdgeError:
    """The error for a process that ended without one of its own.

    Args:
        code: its exit code, -n for signal n.
        complaint: what it said last.
        what: that it did, such as "measuring tg32".

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    if code in (-signal.SIGINT, int(ExitCode.INTERRUPTED)):
        raise KeyboardInterrupt
    if code == -signal.SIGKILL:
        return PlmEdgeError(
            f"the engine was killed while {what}",
            "SIGKILL: most often the system's memory ran out",
            f"{SMALLER}, or close other programs",
            ExitCode.RESOURCES,
        )
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"
    return PlmEdgeError(
        f"the engine ended {how} while {what}",
        complaint or "it said nothing",
        "run it again with --debug, and report what it prints",
        ExitCode.INTERNAL,
    )
