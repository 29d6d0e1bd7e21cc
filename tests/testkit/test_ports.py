"""Ports that nobody else is given meanwhile."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from testkit import ports


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Says which ports the kernel gives."""
    monkeypatch.setattr(ports, "_RANGE", tmp_path / "range")
    return tmp_path / "range"


def test_a_free_port_is_not_one_of_the_kernels(kernels: Path) -> None:
    kernels.write_text("32768\t60999\n")
    found = {ports.free() for _ in range(20)}
    assert len(found) > 10
    for port in found:
        assert 20_000 <= port < 32_768
        socket.create_server(("127.0.0.1", port)).close()


def test_where_the_kernel_gives_all_of_them_any_will_do(kernels: Path) -> None:
    kernels.write_text("1024\t65535\n")
    socket.create_server(("127.0.0.1", ports.free())).close()
