"""A host is where meters read: this machine's files and commands, another's, or a test's."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from plm_edge.devices.transports.transport import Transport

PATIENCE = 5.0  # seconds for a command that reads a sensor


class Host(Protocol):
    """What a meter may ask of a machine.

    Attributes:
        here: it is this machine, so that a library of its can be loaded.
    """

    here: bool

    def read(self, path: str) -> str | None:
        """A file's text without surrounding space; None when it is not there or not readable."""

    def glob(self, pattern: str) -> list[str]:
        """Paths that match, in order of name."""

    def run(self, *command: str) -> str | None:
        """What a command prints; None when it is not there or fails."""


class LocalHost:
    """This machine. `root` is put before every path: a test's tree."""

    here = True

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def read(self, path: str) -> str | None:
        try:
            return (self._root / path.lstrip("/")).read_text(errors="replace").strip()
        except OSError:
            return None

    def glob(self, pattern: str) -> list[str]:
        found = self._root.glob(pattern.lstrip("/"))
        return sorted("/" + path.relative_to(self._root).as_posix() for path in found)

    def run(self, *command: str) -> str | None:
        if shutil.which(command[0]) is None:
            return None
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE, errors="replace"
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None


class RemoteHost:
    """A machine behind a transport of `plm_edge.devices`."""

    here = False

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def read(self, path: str) -> str | None:
        return self._shell(f"cat {shlex.quote(path)}", strip=True)

    def glob(self, pattern: str) -> list[str]:
        return (self._shell(f"ls -d {pattern}") or "").split()

    def run(self, *command: str) -> str | None:
        return self._shell(shlex.join(command))

    def _shell(self, script: str, strip: bool = False) -> str | None:
        done = self._transport.shell(f"{script} 2>/dev/null", timeout=PATIENCE)
        if done.exit_code != 0:
            return None
        return done.text.strip() if strip else done.text


def number(text: str | None) -> float | None:
    """A file's number; None when it holds none."""
    try:
        return float(text) if text else None
    except ValueError:
        return None
