"""`plm-edge rpc` lends this machine's processor and memory to a `run --rpc` elsewhere."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.cli import options

LOOPBACK = "127.0.0.1"


def rpc(
    host: Annotated[
        str,
        typer.Option(help="IPv4 address or name. Others than 127.0.0.1: trusted networks alone."),
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7561,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Lend this machine to `plm-edge run --rpc` on another one, until Ctrl-C.

    It computes layers of a model for one program at a time. The protocol has no key and no
    encryption: whoever reaches the port can read and write this program's memory.
    """
    from plm_edge.engine import library
    from plm_edge.engine import rpc as servers
    from plm_edge.machine.threads import default_threads

    engine = library.load()
    count = threads or default_threads()
    host = servers.address_of(host, port)
    if not host.startswith("127."):
        console.warn(
            f"whoever reaches {host}:{port} can run what they like in this program: there is no "
            "key and no encryption. Only in a network that you trust"
        )
    console.note(f"listening on {host}:{port}, {count} threads; Ctrl-C ends it")
    # the engine listens by itself, and hears no signal of Python's
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    servers.serve(engine, host, port, count)
