"""`plm-edge spa run` makes a text with a plugin, and a base on a server or here."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.spa import place, shared


def run(
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="The text to go on with.")],
    plugin: Annotated[
        Path | None,
        typer.Option(
            help="What spa train made.", show_default="with --device: what was deployed last"
        ),
    ] = None,
    server: shared.Server = None,
    fingerprint: shared.Fingerprint = None,
    key_file: shared.KeyFile = None,
    mode: shared.Mode = shared.ModeName.open,
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
    window: shared.Window = 32,
    device: options.OnDevice = None,
    show: shared.Show = False,
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
    shared.spare_threads()
    from plm_edge.cli.spa import showing, there
    from plm_edge.generate.text import TextDecoder
    from plm_edge.spa import account
    from plm_edge.spa import plugin as plugins
    from plm_edge.spa.choosing import PluginChooser
    from plm_edge.spa.device import Generation, shown

    where = place.Where(server, fingerprint, key_file, mode, base, threads, ctx, window)
    where.check()
    prompt = prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    chosen = secrets.randbelow(1 << 32) if seed is None else seed % (1 << 32)
    if device is not None:
        if mode is shared.ModeName.local or base is not None:
            raise PlmEdgeError(
                f"{device} has no base that a plugin can use",
                "its engine shows no states, so that it goes on with a server or not at all",
                "leave --base and --mode local out, or leave --device out",
                ExitCode.USAGE,
            )
        asked = {
            "server": server, "key": where.key(), "fingerprint": fingerprint, "mode": mode.value,
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
    source, standby = place.open_source(own, where, temp, chosen)
    made = Generation(source, PluginChooser(own, temp, chosen), own.vocabulary, mode.value, standby)
    started = time.perf_counter()
    text, decoder = "", TextDecoder()
    broken: PlmEdgeError | KeyboardInterrupt | None = None
    if not json:
        console.echo(shown(prompt) if mode is shared.ModeName.shadow else prompt)
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
