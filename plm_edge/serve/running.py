"""This module remembers which servers run, so that another plm-edge finds, uses and stops them.

Each has a file of its own in our data folder. It counts as long as its process runs: the same
number with the same start time, for numbers are given again.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plm_edge.base import files, folders
from plm_edge.base.errors import PlmEdgeError

SCHEMA = "plm-edge/server/1"


@dataclass(frozen=True)
class RunningServer:
    """A server that runs, here or on a device and reached through a port here.

    Attributes:
        pid: of llama-server; for a device, of the plm-edge that forwards its port.
        born: when that process began, as `birth` says it.
        port: on this machine.
        host: the addresses that it listens on, with commas between.
        name: of the model, as requests name it.
        model: path of the model, where the server runs.
        n_ctx: tokens of context of each conversation.
        threads: how many compute.
        kv: type of the cache.
        key_file: holds its API key in the first line; empty if it wants none.
        log_file: what it wrote.
        since: when it was started, in seconds since 1970.
        device: where it runs; empty on this machine.
        detached: nobody watches it from a terminal.
    """

    pid: int
    born: str
    port: int
    host: str
    name: str
    model: str
    n_ctx: int
    threads: int
    kv: str
    key_file: str
    log_file: str
    since: float
    device: str = ""
    detached: bool = False

    @property
    def address(self) -> str:
        """An address to reach it by from here."""
        first = self.host.split(",")[0]
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first, first)

    @property
    def url(self) -> str:
        """Where it answers, without a path."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{address}:{self.port}"

    @property
    def key(self) -> str:
        """Its API key; empty if it wants none, or the file is gone."""
        if not self.key_file:
            return ""
        with contextlib.suppress(OSError):
            lines = Path(self.key_file).read_text(encoding="utf-8").splitlines()
            return next((line for line in lines if line and not line.startswith("#")), "")
        return ""

    @property
    def log(self) -> Path:
        """What it wrote."""
        return Path(self.log_file)

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return birth(self.pid) == self.born


def birth(pid: int) -> str:
    """When a process began, as a word to compare; empty if there is none of that number.

    Linux counts from its own start: the clock of a board without a battery jumps.
    """
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return ""


def folder() -> Path:
    """The folder of what is known about servers: one file for each, keys and logs."""
    return folders.data() / "serve"


def servers() -> list[RunningServer]:
    """All servers that run, by port."""
    return sorted((one for one in _known() if one.alive), key=lambda one: one.port)


def sweep() -> list[RunningServer]:
    """Forget the servers that ended without being stopped, and return them. Their logs stay."""
    ended = [one for one in _known() if not one.alive]
    for one in ended:
        forget(one)
    return ended


def add(server: RunningServer) -> None:
    """Remember a server.

    Raises:
        PlmEdgeError: our data folder cannot be written.
    """
    made = folders.ensure(folder(), "PLM_EDGE_DATA_DIR")
    data = {"schema": SCHEMA, **asdict(server)}
    files.write_text(made / f"{server.port}.json", json.dumps(data, indent=2), files.PRIVATE)


def forget(server: RunningServer) -> None:
    """Remove what is known of a server that ended, unless another one has its port by now."""
    path = folder() / f"{server.port}.json"
    if _read(path) == server:
        for gone in (path, key_file(server.port)):
            with contextlib.suppress(OSError):
                gone.unlink()


def find(wanted: str) -> list[RunningServer]:
    """The servers of a port or of a model's name.

    Raises:
        PlmEdgeError: there is none.
    """
    known = servers()
    found = [one for one in known if wanted in (str(one.port), one.name, Path(one.model).stem)]
    if found:
        return found
    names = ", ".join(f"{one.name} at port {one.port}" for one in known)
    raise PlmEdgeError(
        f"no server {wanted} runs here",
        f"there is {names}" if names else "plm-edge runs none at all",
        "see which there are: plm-edge ps",
    )


def key_file(port: int) -> Path:
    """Where the key of the server of a port is kept while it runs."""
    return folder() / f"{port}.key"


def log_file(port: int) -> Path:
    """Where the server of a port writes its log."""
    return folder() / f"{port}.log"


def _known() -> list[RunningServer]:
    found = map(_read, sorted(folder().glob("*.json")))
    return [one for one in found if one is not None]


def _read(path: Path) -> RunningServer | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("schema") != SCHEMA:
            return None
        return RunningServer(**data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
