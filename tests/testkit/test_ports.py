"""Ports that nobody else is given meanwhile."""

from __future__ import annotations

import socket

from testkit import ports


def test_a_free_port_can_be_listened_at_and_is_not_the_kernels() -> None:
    with socket.create_server(("127.0.0.1", 0)) as kernels:
        lowest = int(ports._RANGE.read_text().split()[0])
        assert kernels.getsockname()[1] >= lowest
    found = {ports.free() for _ in range(20)}
    assert len(found) > 10
    for port in found:
        assert port < lowest
        socket.create_server(("127.0.0.1", port)).close()
