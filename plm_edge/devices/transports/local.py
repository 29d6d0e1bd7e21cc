"""This transport is this machine itself, by the same interface as any other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from plm_edge.devices.transports import process
from plm_edge.devices.transports.transport import Output, Transport


class LocalTransport(Transport):
    """This machine: /bin/sh runs the commands.

    Args:
        home: the folder where relative paths start. None takes the user's home.
        name: what errors call it.
    """

    def __init__(self, home: Path | None = None, name: str = "this machine") -> None:
        super().__init__(name)
        self.home = home or Path.home()

    @property
    def here(self) -> bool:
        return True

    def _execute(
        self,
        script: str,
        stdin: Iterable[bytes],
        stdout: Output,
        stderr: Output,
        timeout: float | None,
    ) -> int:
        command = ["/bin/sh", "-c", script]
        return process.execute(command, stdin, stdout, stderr, timeout, cwd=self.home)
