"""The real command in a process of its own, as a person calls it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


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
        """
        done = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            capture_output=True,
            env=self.env,
            timeout=timeout,
        )
        out, err = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
        if code is not None:
            assert done.returncode == code, f"exit code {done.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start it and return at once, both streams piped."""
        return subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
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
