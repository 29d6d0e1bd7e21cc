"""The real command in a process of its own, with data and cache folders of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cli import plm_gguf

ROOT = Path(__file__).parents[2]


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


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    unwanted = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE")
    env = {name: value for name, value in os.environ.items() if name not in unwanted}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    env["PLM_EDGE_DATA_DIR"] = str(tmp_path / "data")
    env["PLM_EDGE_CACHE_DIR"] = str(tmp_path / "cache")
    env["TERM"] = "xterm-256color"
    return Cli(env)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models: random.gguf, abc.gguf (answers abcabc…), xyz-end.gguf (xyz, end)."""
    folder = tmp_path_factory.mktemp("models")
    plm_gguf.write(folder / "random.gguf", n_ctx=200_000)
    plm_gguf.write(folder / "abc.gguf", script=b"abc", n_ctx=200_000)
    plm_gguf.write(folder / "xyz-end.gguf", script=b"xyz", endless=False)
    return folder
