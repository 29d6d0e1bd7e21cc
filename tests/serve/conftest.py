"""Real servers with tiny-plm, started by the command as a person does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testkit.checkout import Upstream
from testkit.cli import Cli
from tests.serve.http import Http


@dataclass
class Started:
    """A `plm-edge serve` that answers."""

    process: subprocess.Popen[bytes]
    about: dict[str, Any]  # what --json said

    @property
    def http(self) -> Http:
        return Http(self.about["port"], self.key)

    @property
    def key(self) -> str:
        file = self.about["key_file"]
        return Path(file).read_text().splitlines()[0] if file else ""

    @property
    def log(self) -> str:
        return Path(self.about["log_file"]).read_text()


@pytest.fixture(scope="session")
def program(upstream: Upstream) -> Path:
    """llama-server of this checkout's build."""
    found = upstream.bin / "llama-server"
    assert found.is_file(), "run `make test`: it builds llama.cpp's server"
    return found


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command with folders of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PLM_EDGE_", "LLAMA_"))
    }
    folders = {
        f"PLM_EDGE_{name}_DIR": str(tmp_path / name.lower()) for name in ("DATA", "CACHE", "CONFIG")
    }
    return Cli(kept | folders)


Serve = Callable[..., Started]


@contextmanager
def started(cli: Cli, *arguments: str | Path) -> Iterator[Started]:
    """`plm-edge serve` in a process of its own; ended by SIGTERM if it still runs."""
    process = cli.start("serve", "--json", "--port", "0", *arguments)
    assert process.stdout
    assert process.stderr
    try:
        text = b""
        while (line := process.stdout.readline()) and line.rstrip() != b"}":
            text += line
        assert line, process.stderr.read().decode()
        yield Started(process, json.loads(text + line))
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def serve(cli: Cli, tiny_gguf: Path, program: Path) -> Iterator[Serve]:
    """Starts `plm-edge serve` of tiny-plm with more arguments."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(*arguments: str | Path) -> Started:
            return stack.enter_context(started(cli, tiny_gguf, *arguments))

        yield start


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something that must come."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Whether a process of this number runs (and is no zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return not re.search(r"\) [ZX] ", stat)
