"""This module knows RPC servers: other machines whose memory and cores compute layers of a model.

The protocol is ggml's (ggml-rpc.cpp), and the engine speaks it. It ends the program when a server
cannot be reached, is of another version, or goes away. So each server is asked first from here who
it is (overlay/ggml/src/ggml-rpc/plm-rpc.h has the answer), and what is wrong is said in words.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import accelerators
from plm_edge.engine.library import Engine

PORT = 7561  # of a server that `plm-edge rpc` starts
VERSION = 7  # RPC_PROTO_MAJOR_VERSION of the pinned tree (ggml-rpc.h); a test compares the two
_HELLO, _DEVICE_COUNT, _MEMORY, _ABOUT = 14, 15, 11, 19  # enum rpc_cmd
_CAPS = bytes(24)  # no other transport than TCP
_MARK = ord("P")
_PATIENCE = 5  # seconds to connect, and for each answer
_OURS = "start one there with `plm-edge rpc` of the same version"


@dataclass(frozen=True)
class RpcServer:
    """A server that answered.

    Attributes:
        endpoint: HOST:PORT.
        tree: hash of the tree that it was built from.
        sparse: whether all its devices have our sparse product.
        free: bytes of memory that its devices have free, each.
    """

    endpoint: str
    tree: str
    sparse: bool
    free: tuple[int, ...]


def parse(text: str | None) -> tuple[str, ...]:
    """Returns the endpoints in a comma-separated list; without a port it is ours.

    Raises:
        PlmEdgeError: one is no HOST:PORT (code USAGE).
    """
    if text is None:
        return ()
    return tuple("{}:{}".format(*_host_port(part.strip())) for part in text.split(","))


def _host_port(endpoint: str) -> tuple[str, int]:
    if endpoint.startswith("[") or endpoint.count(":") > 1:
        raise _ipv6(endpoint)
    host, _, port = endpoint.rpartition(":") if ":" in endpoint else (endpoint, "", str(PORT))
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise PlmEdgeError(
            f"{endpoint!r} names no RPC server",
            "a server is HOST:PORT, or HOST alone; several have commas between them",
            f"for example --rpc 192.168.0.7:{PORT},192.168.0.8:{PORT}",
            ExitCode.USAGE,
        )
    return host, int(port)


def _ipv6(address: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{address} cannot be used for RPC",
        "it is an address of IPv6, and llama.cpp's RPC speaks IPv4 alone",
        "give the IPv4 address or a name that has one; or go through a tunnel: "
        f"ssh -L {PORT}:127.0.0.1:{PORT} HOST, then --rpc 127.0.0.1:{PORT}",
        ExitCode.USAGE,
    )


def _only_ipv6(host: str) -> bool:
    """Whether a name or an address has IPv6 and no IPv4."""
    found = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            found |= {entry[0] for entry in socket.getaddrinfo(host, None, family)}
    return found == {socket.AF_INET6}


def ask(endpoint: str, tree: str) -> RpcServer:
    """Ask a server who it is.

    Args:
        tree: of the engine here, which must be the server's.

    Raises:
        PlmEdgeError: it is unreachable, busy, no RPC server, or of another version (code DEVICE).
    """
    host, port = _host_port(endpoint)
    try:
        with socket.socket(socket.AF_INET) as stream:  # the engine knows no other family
            stream.settimeout(_PATIENCE)
            stream.connect((host, port))
            major, minor, patch, mark = _call(stream, _HELLO, _CAPS, 4 + len(_CAPS))[:4]
            if (major, mark) != (VERSION, _MARK):
                raise _foreign(endpoint, f"it speaks version {major}.{minor}.{patch} of RPC")
            about = _call(stream, _ABOUT, b"", 128)
            theirs = about[:64].split(b"\0")[0].decode("ascii", "replace")
            if theirs != tree:
                raise _foreign(
                    endpoint, f"it was built from tree {theirs[:12]}, this engine from {tree[:12]}"
                )
            (count,) = struct.unpack("<I", _call(stream, _DEVICE_COUNT, b"", 4))
            free = [_call(stream, _MEMORY, struct.pack("<I", at), 16) for at in range(count)]
    except TimeoutError as error:
        raise PlmEdgeError(
            f"the RPC server {endpoint} does not answer",
            "it serves one program at a time, and may be busy with another; or a firewall drops it",
            "end the other program, or start another server on another port",
            ExitCode.DEVICE,
        ) from error
    except OSError as error:
        if isinstance(error, socket.gaierror) and _only_ipv6(host):
            raise _ipv6(host) from error
        raise PlmEdgeError(
            f"the RPC server {endpoint} cannot be reached",
            error.strerror or f"{error}",
            f"see that it runs and that its address and port are right; {_OURS}",
            ExitCode.DEVICE,
        ) from error
    sparse = count > 0 and all(about[64 : 64 + min(count, 63)])  # `answers` is the last
    return RpcServer(endpoint, theirs, sparse, tuple(struct.unpack("<Q", x[:8])[0] for x in free))


def _call(stream: socket.socket, command: int, data: bytes, size: int) -> bytes:
    """Send one command and return its answer of `size` bytes.

    Raises:
        ConnectionError: the server ended the connection, or what it answers is something else.
    """
    stream.sendall(struct.pack("<BQ", command, len(data)) + data)
    (length,) = struct.unpack("<Q", _receive(stream, 8))
    if length != size:
        raise ConnectionError(None, "what answers there is no RPC server of this version")
    return _receive(stream, size)


def _receive(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise ConnectionError(None, "what listens there is no RPC server of this version")
        data += more
    return data


def _foreign(endpoint: str, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"the RPC server {endpoint} is of another version", why, _OURS, ExitCode.DEVICE
    )


def devices(engine: Engine, servers: Sequence[RpcServer]) -> list[int]:
    """Connect to servers, and return their devices: addresses of ggml_backend_dev.

    Afterwards the engine ends this program with three lines if one of them goes away.
    """
    library = _library(engine)
    base = engine.ggml
    base.ggml_backend_reg_dev_count.restype = ctypes.c_size_t
    base.ggml_backend_reg_dev_count.argtypes = [ctypes.c_void_p]
    base.ggml_backend_reg_dev_get.restype = ctypes.c_void_p
    base.ggml_backend_reg_dev_get.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    base.ggml_set_abort_callback.argtypes = [_ABORT]
    base.ggml_set_abort_callback.restype = ctypes.c_void_p
    base.ggml_set_abort_callback(_ABORTED)
    found = []
    for server in servers:
        registered = library.ggml_backend_rpc_add_server(server.endpoint.encode())
        count = base.ggml_backend_reg_dev_count(registered) if registered else 0
        found += [base.ggml_backend_reg_dev_get(registered, at) for at in range(count)]
    return found


def _library(engine: Engine) -> ctypes.CDLL:
    library = accelerators.library(engine, "ggml-rpc")
    library.ggml_backend_rpc_add_server.restype = ctypes.c_void_p
    library.ggml_backend_rpc_add_server.argtypes = [ctypes.c_char_p]
    return library


_ABORT = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def _on_abort(message: bytes) -> None:
    """The engine aborts: whatever it says, a lost server is the likeliest reason by far."""
    text = message.decode(errors="replace").strip()
    if "RPC" in text or "rpc" in text:
        os.write(
            2,
            b"the connection to an RPC server was lost\n"
            b"  why  " + text.splitlines()[0].encode() + b"\n"
            b"  fix  see that it still runs there (its memory may be full), and run again\n",
        )
        os._exit(int(ExitCode.DEVICE))


_ABORTED = _ABORT(_on_abort)  # kept as long as the program: the engine has its address


def address_of(host: str, port: int) -> str:
    """Returns the IPv4 address of a name of this machine, or an address as it is.

    Refuses one that a server cannot listen on at this port. (The engine itself takes no names.)

    Raises:
        PlmEdgeError: the port is taken, or the address is not this machine's (code ENVIRONMENT), or
            of IPv6 (code USAGE).
    """
    if _only_ipv6(host):
        raise _ipv6(host)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            found: str = probe.getsockname()[0]
        except OSError as error:
            raise PlmEdgeError(
                f"an RPC server cannot listen on {host}:{port}",
                error.strerror or f"{error}",
                "choose another port with --port, or an address of this machine with --host",
                ExitCode.ENVIRONMENT,
            ) from error
    return found


def serve(engine: Engine, host: str, port: int, threads: int) -> None:
    """Serve this machine's CPU to one program at a time, until the process is ended.

    Args:
        host: address to listen on. Whoever reaches it can read and write this process's memory:
            the protocol knows no key.
        port: to listen on.
        threads: that compute.
    """
    cpu = (ctypes.c_void_p * 1)(accelerators.cpu(engine))
    start = _library(engine).ggml_backend_rpc_start_server
    start.restype = None
    start.argtypes = [
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_void_p),
    ]  # fmt: skip
    start(f"{host}:{port}".encode(), None, threads, 1, cpu)
