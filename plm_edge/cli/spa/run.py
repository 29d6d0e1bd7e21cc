"""`plm-edge spa run` makes a text with a plugin, and a base on a server or here."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options

if TYPE_CHECKING:
    from plm_edge.spa.plugin import Plugin
    from plm_edge.spa.source import Here, Source


class Mode(str, Enum):
    """What the server gets."""

    open = "open"
    shadow = "shadow"
    local = "local"


def run(
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The text to go on with.")],
    plugin: Annotated[
        Path | None,
        typer.Option(
            help="What spa train made.", show_default="with --device: what was deployed last"
        ),
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="What spa serve printed: wss://HOST:PORT, or ws://…")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Of the server's certificate; spa serve printed it.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="The server's key; else it is in PLM_EDGE_API_KEY.")
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="open: the server gets the text. shadow: no personal token, and of {{this|that}} "
            "in the prompt only that. local: there is no server."
        ),
    ] = Mode.open,
    base: Annotated[
        str | None,
        typer.Option(
            help="The base on this machine: for --mode local, and to go on with if the server is "
            "lost. It is loaded and filled in the background.",
            show_default=False,
        ),
    ] = None,
    n_predict: Annotated[
        int, typer.Option("--n-predict", "-n", min=1, help="Most tokens to make.")
    ] = 128,
    temp: options.Temp = 0.0,
    seed: options.Seed = None,
    window: Annotated[
        int, typer.Option(min=4, max=64, help="Tokens that the server computes ahead.")
    ] = 16,
    device: options.OnDevice = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Show which tokens were personal (in colour, or in brackets)."),
    ] = False,
    threads: options.Threads = None,
    ctx: options.Ctx = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Make a text with a plugin.

    Without --base no engine is loaded here: the server computes, and this machine decides. With
    --device it is decided there, and the device asks the server itself. The server sees the tokens
    that it goes on with; docs/spa.md says what that means.
    """
    from plm_edge.cli.spa import showing, there
    from plm_edge.generate.text import TextDecoder
    from plm_edge.serve import keys
    from plm_edge.spa import account
    from plm_edge.spa import plugin as plugins
    from plm_edge.spa.choosing import PluginChooser
    from plm_edge.spa.device import Generation, shown
    from plm_edge.spa.source import Remote
    from plm_edge.spa.standby import Standby

    if (server is None) != (mode is Mode.local):
        raise PlmEdgeError(
            "it is not clear where the base is",
            "--server and --mode local exclude each other" if server else "no --server is given",
            "give --server URL, or --mode local --base MODEL",
            ExitCode.USAGE,
        )
    prompt = prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    chosen = secrets.randbelow(1 << 32) if seed is None else seed % (1 << 32)
    key = keys.read(key_file) if key_file else os.environ.get(keys.VARIABLE, "").strip()
    if device is not None:
        if mode is Mode.local or base is not None:
            raise PlmEdgeError(
                f"{device} has no base that a plugin can use",
                "its engine shows no states, so that it goes on with a server or not at all",
                "leave --base and --mode local out, or leave --device out",
                ExitCode.USAGE,
            )
        asked = {
            "server": server, "key": key, "fingerprint": fingerprint, "mode": mode.value,
            "prompt": prompt, "n_predict": n_predict, "temperature": temp, "seed": chosen,
            "window": window,
        }  # fmt: skip
        there.run(device, plugin, asked, show=show, json=json)
        return
    if plugin is None:
        raise PlmEdgeError(
            "there is no plugin",
            "--plugin is not given",
            "give what plm-edge spa train made: --plugin plugin.gguf",
            ExitCode.USAGE,
        )
    own = plugins.read(plugin)
    source: Source
    standby = None
    load = _here(base, own, threads, ctx, temp, chosen) if server is None or base else None
    if server is None:
        assert load is not None
        source = load()
    else:
        source = Remote(server, key, fingerprint, own, window=window, temperature=temp, seed=chosen)
        standby = Standby(load) if load else None
    made = Generation(source, PluginChooser(own, temp, chosen), own.vocabulary, mode.value, standby)
    started = time.perf_counter()
    text, decoder = "", TextDecoder()
    broken: PlmEdgeError | KeyboardInterrupt | None = None
    if not json:
        console.echo(shown(prompt) if mode is Mode.shadow else prompt)
    try:
        for step in made.steps(prompt, n_predict):
            part = decoder.feed(step.piece)
            text += part
            if not json:
                showing.part(part, personal=step.personal and show)
    except (PlmEdgeError, KeyboardInterrupt) as error:
        broken = error
    finally:
        rest = decoder.finish()
        text += rest
        if not json:
            showing.part(rest + "\n", personal=False)
        made.close()
    if broken is None or made.made:  # what was made is told, whatever ended it
        known = account.of(made, source, time.perf_counter() - started, broken)
        if json:
            console.emit_json({"schema": showing.SCHEMA, "text": text, **known})
        else:
            showing.report(known)
    if broken is not None:
        raise broken


def _here(
    base: str | None,
    plugin: Plugin,
    threads: int | None,
    ctx: int | None,
    temperature: float,
    seed: int,
) -> Callable[[], Here]:
    """Returns what loads the base. That it is the plugin's is seen to now, before anything is
    sent."""
    from plm_edge.engine.options import Options
    from plm_edge.spa.source import Here, require_base
    from plm_edge.store import choice

    path = choice.choose(base).path
    require_base(path, plugin)
    options = Options(threads=threads, n_ctx=ctx)
    return lambda: Here(path, plugin, options, temperature, seed)
