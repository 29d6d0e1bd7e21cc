"""Layers on a device that is not the CPU: a real RPC server on loopback stands for a GPU.

Its buffers are not host memory and it runs its part of the graph by itself, so the split of the
graph, the weights' and the cache's placement and the path without our ops are those of a GPU. That
another device computes rightly is for tests on that device.
"""

from __future__ import annotations

import ctypes
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plm_edge.engine import library
from plm_edge.engine.log import engine_log
from testkit import ports
from testkit.checkout import Upstream
from tests.parity.engine import Engine, Setting, interleaved
from tests.parity.subjects import Subject, as_rows, by_row, nmse

BOUNDS = {"f16": 1e-4, "q8_0": 1e-3}


@pytest.fixture(scope="module")
def device(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The ggml_backend_dev_t of a running RPC server."""
    port = ports.free()
    log = tmp_path_factory.mktemp("rpc") / "log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [upstream.bin / "ggml-rpc-server", "-H", "127.0.0.1", "-p", str(port), "-t", "1"],
            stdout=stream,
            stderr=stream,
        )
    try:
        _wait_for(port, server, log)
        yield _connect(f"127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the RPC server does not answer: {log.read_text()}")


def _connect(endpoint: str) -> Any:
    """The server's device, known to nobody but the caller: other tests keep to the CPU."""
    folder = library.load().folder
    rpc = ctypes.CDLL(str(folder / "libggml-rpc.so"))
    rpc.ggml_backend_rpc_add_server.restype = ctypes.c_void_p
    rpc.ggml_backend_rpc_add_server.argtypes = [ctypes.c_char_p]
    base = library.load().ggml
    base.ggml_backend_reg_dev_get.restype = ctypes.c_void_p
    base.ggml_backend_reg_dev_get.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    device = base.ggml_backend_reg_dev_get(rpc.ggml_backend_rpc_add_server(endpoint.encode()), 0)
    assert device
    return device


@pytest.mark.parametrize("cache", BOUNDS)
@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("layers", [1, 99])
@pytest.mark.parametrize("name", ["plm-attention", "zeros"])
def test_offload(
    engine: Engine,
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    device: Any,
    name: str,
    layers: int,
    flash: str,
    cache: str,
) -> None:
    case = subject(name)
    model = engine.load(case.gguf, device=device, gpu_layers=layers)
    sequences = case.sequences(100, 3, 40)
    batch = interleaved(as_rows(sequences))
    expected = by_row(batch, [case.expected(tokens) for tokens in sequences])
    for ubatch in (5, 512):  # absorbed, expanded
        setting = Setting(flash, ubatch, sequences=3, cache=cache, context=512)
        with model.context(setting) as context:
            within(nmse(context.decode(batch), expected), BOUNDS[cache])


def test_layers_are_on_the_device(
    engine: Engine, subject: Callable[[str], Subject], device: Any
) -> None:

    engine_log.clear()
    engine.load(subject("zeros").gguf, device=device, gpu_layers=99)
    assert "offloaded 4/4 layers" in engine_log.text
