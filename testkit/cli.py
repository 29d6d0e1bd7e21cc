"""The real command in a process of its own, as a person calls it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


def finish(
    process: subprocess.Popen[bytes], stdin: bytes | None = None, patience: float = 120
) -> tuple[bytes, bytes]:
    """Wait for a process, and return what its pipes gave, as `Popen.communicate` does.

    Args:
        patience: seconds until it counts as hung. Those in which it could have run and got no
            processor do not count (on Linux): other programs have them, and it does not hang.

    Raises:
        subprocess.TimeoutExpired: it hung, and was killed.
    """
    deadline = time.monotonic() + patience
    while True:
        left = deadline + _starved(process.pid) - time.monotonic()
        try:
            return process.communicate(stdin, timeout=max(left, 0.1))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline + _starved(process.pid):
                process.kill()
                process.communicate()
                raise
        stdin = None  # what is left of it is still written


def _starved(pid: int) -> float:
    """Seconds that a process waited for a processor so far; 0 where the kernel does not count."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


@dataclass
class Cli:
    """Calls `plm-edge` as a user does. `env` is the process's whole environment."""

    env: dict[str, str]
    command: list[str] = field(default_factory=lambda: [sys.executable, "-m", "plm_edge"])

    def __call__(
        self,
        *arguments: str | bytes | Path,
        stdin: bytes = b"",
        code: int | None = 0,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; output as text.

        Args:
            code: the exit code that it must have; None leaves it to the caller.
            timeout: the patience of `finish`.
        """
        process = self._popen(arguments, subprocess.PIPE)
        out, err = (stream.decode("utf-8") for stream in finish(process, stdin, timeout))
        if code is not None:
            assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start it and return at once, both streams piped."""
        return self._popen(arguments, subprocess.DEVNULL)

    def _popen(
        self, arguments: Sequence[str | bytes | Path], stdin: int
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.command, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
        )

    def fails(self, *arguments: str | bytes | Path, code: int, stdin: bytes = b"") -> list[str]:
        """Run it, expecting an error of three lines, and return [what, why, fix]."""
        done = self(*arguments, stdin=stdin, code=code)
        assert done.stdout == ""
        lines = done.stderr.splitlines()[-3:]
        assert len(lines) == 3, done.stderr
        assert lines[1].startswith("  why  "), done.stderr
        assert lines[2].startswith("  fix  "), done.stderr
        return [lines[0], lines[1][7:], lines[2][7:]]
