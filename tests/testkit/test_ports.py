"""Ports that nobody else is given meanwhile."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from testkit import ports


def test_a_free_port_is_not_one_of_the_kernels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernels = tmp_path / "range"
    kernels.write_text("32768\t60999\n")
    monkeypatch.setattr(ports, "_RANGE", kernels)
    found = {ports.free() for _ in range(20)}
    assert len(found) > 10
    for port in found:
        assert 20_000 <= port < 32_768
        socket.create_server(("127.0.0.1", port)).close()


def test_where_the_kernel_gives_all_of_them_any_will_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernels = tmp_path / "range"
    kernels.write_text("1024\t65535\n")
    monkeypatch.setattr(ports, "_RANGE", kernels)
    socket.create_server(("127.0.0.1", ports.free())).close()
