"""RPC servers on loopback, started as a person does: `plm-edge rpc`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testkit import ports
from testkit.checkout import ROOT


@dataclass
class Server:
    """A running `plm-edge rpc`."""

    port: int
    process: subprocess.Popen[str]

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def two() -> Iterator[list[Server]]:
    """Two of them, each with one thread."""
    with _served() as first, _served() as second:
        yield [first, second]


_OF_GPU = """
import sys
from plm_edge.engine import accelerators, library, rpc
engine = library.load()
(gpu,) = accelerators.gpus(engine)
accelerators.cpu = lambda _: gpu.handle
rpc.serve(engine, "127.0.0.1", int(sys.argv[1]), 1)
"""


@contextmanager
def of_gpu(variables: Mapping[str, str]) -> Iterator[Server]:
    """One that lends the GPU which a program with these variables finds."""
    port = ports.free()
    with _listening(port, [sys.executable, "-c", _OF_GPU, str(port)], variables) as server:
        yield server


@contextmanager
def _served() -> Iterator[Server]:
    port = ports.free()
    command = [sys.executable, "-m", "plm_edge", "rpc", "--threads", "1", "--port", str(port)]
    with _listening(port, command, {}) as server:
        yield server


@contextmanager
def _listening(port: int, command: list[str], variables: Mapping[str, str]) -> Iterator[Server]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "transport" in line:  # what the engine prints before it listens
                break
        threading.Thread(target=process.stdout.read, daemon=True).start()
        _wait_until_it_listens(port)
        yield Server(port, process)
    finally:
        process.kill()
        process.wait(60)


def _wait_until_it_listens(port: int) -> None:
    """By Linux's list of sockets: a trial connection would be the one that it serves."""
    listening = f":{port:04X} 00000000:0000 0A"
    for _ in range(600):
        if listening in Path("/proc/net/tcp").read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on port {port}")


def endpoints(servers: list[Server]) -> str:
    """Their names as --rpc takes them."""
    return ",".join(server.endpoint for server in servers)
