"""`plm-edge spa serve` serves a base to devices that have a plugin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.base import console, files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.spa import shared

if TYPE_CHECKING:
    from plm_edge.spa.base import Base


def serve(
    base: shared.Base = None,
    codec: shared.Codec = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8771,
    key_file: Annotated[
        Path | None,
        typer.Option(help="A file with the key that devices send.", show_default="a kept one"),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Without encryption: on this machine, or behind ssh -L."),
    ] = False,
    texts: Annotated[int, typer.Option(min=1, max=64, help="Most texts at once.")] = 4,
    ctx: Annotated[int, typer.Option(min=64, help="Tokens of a text.")] = 2048,
    kv: options.FittingKV = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Serve a base to devices that have a plugin: states and likely tokens, one frame a token.

    The server sees what it goes on with: the prompt, and in mode open the text. It gets neither
    plugin nor personal texts (docs/spa.md). Ends with Ctrl-C.
    """
    shared.spare_threads()
    from plm_edge.cli.bar import Bar
    from plm_edge.cli.model import say_which
    from plm_edge.engine.options import AUTO, Options
    from plm_edge.serve import keys, network
    from plm_edge.spa import making, tls
    from plm_edge.spa.base import Base
    from plm_edge.store import choice

    if plain and not network.is_loopback(host):
        raise PlmEdgeError(
            "--plain is for this machine alone",
            f"on {host}, others on the network could read key and texts",
            "leave --plain out, or leave --host out and forward the port: ssh -L",
            ExitCode.USAGE,
        )
    given = keys.given(key_file)
    file = given or keys.kept()
    key = keys.read(file)
    keys.drop(given)
    if given is None:
        console.note(f"devices send the key in {file}: copy it there, for --key-file")
    chosen = choice.choose(base)
    say_which(chosen)
    base_hash = files.sha256(chosen.path)
    engine = Options(threads=threads, kv=kv.value if kv else AUTO, n_ctx=ctx * texts)
    with console.progress(in_bytes=False) as display:
        found = making.codec_of(
            chosen.path, base_hash, codec, engine, Bar(display, "reading public text")
        )
    loaded = Base(chosen.path, found, engine, sequences=texts)
    certificate = None if plain else tls.own()
    try:
        length = loaded.session.n_ctx // texts
        asyncio.run(_serve(loaded, base_hash, key, host, port, certificate, texts, length))
    finally:
        loaded.close()


async def _serve(
    base: Base,
    base_hash: str,
    key: str,
    host: str,
    port: int,
    certificate: tuple[Path, Path] | None,
    texts: int,
    length: int,
) -> None:
    from plm_edge.spa import tls
    from plm_edge.spa.server import SpaServer

    server = SpaServer(base, base_hash, key, texts=texts, length=length)
    await server.start(host, port, tls.server_context(*certificate) if certificate else None)
    shown = "HOST" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    console.out.print(f"{'wss' if certificate else 'ws'}://{shown}:{server.port}", markup=False)
    if certificate:
        console.out.print(f"fingerprint {tls.fingerprint(certificate[0])}", markup=False)
    console.note(f"up to {texts} texts of {length:,} tokens; Ctrl-C ends it")
    try:
        await server.run()
    finally:
        await server.close()
