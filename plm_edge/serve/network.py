"""This module knows this machine's addresses, and who holds a port."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.serve import running


def lan_address() -> str:
    """This machine's address in its network, as other devices there reach it.

    Raises:
        PlmEdgeError: it has none.
    """
    known = addresses()
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect(("192.0.2.1", 9))  # sends nothing: it asks which address would send
        found = str(way.getsockname()[0])
        if found in known:
            return found
    private = [one for one in known if ipaddress.ip_address(one).is_private]
    if private:
        return private[0]
    raise PlmEdgeError(
        "this machine is in no network",
        "none of its addresses is one of a home or office network",
        "connect it, or name the address: --host ADDRESS",
        ExitCode.ENVIRONMENT,
    )


def addresses() -> list[str]:
    """The IPv4 addresses that other machines may reach this one by."""
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        one.address
        for name, all_of_it in psutil.net_if_addrs().items()
        for one in all_of_it
        if name in up and one.family == socket.AF_INET
    ]
    return [one for one in found if not ipaddress.ip_address(one).is_loopback]


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address, or a name, to listen on."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def names() -> list[str]:
    """What others may call this machine: its addresses, and its name with and without .local."""
    own = socket.gethostname().lower()
    return [*addresses(), own, own.removesuffix(".local") + ".local"]


def require_free(host: str, port: int) -> None:
    """Refuse a port that something listens on, and say who.

    Args:
        host: an address to listen on.
        port: 0 is always free.

    Raises:
        PlmEdgeError: it is taken, or there is no such address here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
            attempt.listen()
        except PermissionError as error:
            raise PlmEdgeError(
                f"port {port} may not be used", str(error.strerror), "take one above 1023: --port"
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _taken(port) from error
            raise PlmEdgeError(
                f"nothing can listen at {host} port {port}",
                str(error.strerror or error),
                "see this machine's addresses (ip address), or leave --host out",
                ExitCode.USAGE,
            ) from error


def free_port(hosts: Sequence[str]) -> int:
    """A port that is free at all of these addresses at the moment."""
    while True:
        family = socket.AF_INET6 if ":" in hosts[0] else socket.AF_INET
        with socket.socket(family) as probe:
            probe.bind((hosts[0], 0))
            port = int(probe.getsockname()[1])
        with suppress(PlmEdgeError):  # taken at another one: once more
            for host in hosts:
                require_free(host, port)
            return port


def _taken(port: int) -> PlmEdgeError:
    ours = [one for one in running.servers() if one.port == port]
    if ours:
        where = f" on {ours[0].device}" if ours[0].device else ""
        why = f"plm-edge serves {ours[0].name}{where} there (process {ours[0].pid})"
        fix = f"use that one, stop it (plm-edge stop {port}), or take another: --port 0"
    else:
        why = f"{_holder(port)} listens there"
        fix = "end it, or take another port: --port 0 takes any that is free"
    return PlmEdgeError(f"port {port} is taken", why, fix, ExitCode.ENVIRONMENT)


def _holder(port: int) -> str:
    """Who listens at a port, as the subject of a sentence."""
    import psutil

    with suppress(psutil.Error, OSError):
        for one in psutil.net_connections(kind="tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr[1] == port and one.pid:
                return f"{psutil.Process(one.pid).name()} (process {one.pid})"
    return "another program"
