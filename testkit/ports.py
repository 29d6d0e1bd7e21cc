"""Ports for servers that a test starts, or that stay without one."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from pathlib import Path

_LOWEST = 20_000  # above what tests name themselves
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free() -> int:
    """Returns a port of loopback at which nothing listens.

    It lies below those that the kernel gives to connections, and to servers that ask for any: a
    test beside this one would get such a port at any moment before its server is there.
    """
    end = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    ports: Sequence[int] = range(_LOWEST, end) if end > _LOWEST + 1000 else [0]  # 0: any
    chance = random.SystemRandom()  # a seed that a test sets would give two of them the same
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", chance.choice(ports)))
            except OSError:  # it is taken
                continue
            return int(probe.getsockname()[1])
