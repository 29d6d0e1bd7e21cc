"""`plm-edge serve` runs a model as a server, on this machine or on a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options

_FOR_HERE = ("lan", "host", "origin", "alias", "api_key_file", "speculate")
Port = Annotated[
    int,
    typer.Option(
        "--port",
        min=0,
        max=65535,
        envvar="PLM_EDGE_PORT",
        help="Port to listen on; 0: any that is free.",
    ),
]


def serve(
    model: options.Model = None,
    port: Port = 7560,
    host: Annotated[
        str | None,
        typer.Option(
            envvar="PLM_EDGE_HOST", help="The address to listen on.", show_default="127.0.0.1"
        ),
    ] = None,
    lan: Annotated[
        bool, typer.Option("--lan", help="For this network as well: with a key and a QR code.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="In the background; `plm-edge stop` ends it.")
    ] = False,
    alias: Annotated[
        list[str] | None,
        typer.Option(help="Another name of the model for requests; repeat it.", show_default=False),
    ] = None,
    ctx: options.Ctx = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Conversations at once, each with its --ctx.")
    ] = 1,
    threads: options.Threads = None,
    kv: options.FittingKV = None,
    rpc: options.Rpc = None,
    gpu: options.Gpu = "auto",
    mlock: options.MLock = False,
    exact: options.Exact = False,
    idle: Annotated[
        int, typer.Option(min=0, help="Seconds without a request until memory is freed; 0: never.")
    ] = 900,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="Keys, one a line; else PLM_EDGE_API_KEY.", show_default=False),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="A foreign web page that may use it (https://a.example); repeat it.",
            show_default=False,
        ),
    ] = None,
    prompts: options.PromptCache = None,
    no_prompts: options.NoPromptCache = False,
    speculate: Annotated[
        bool,
        typer.Option(
            "--speculate",
            help="Guess tokens ahead from the text so far: pays where memory is slow and texts "
            "repeat themselves. (The text is the same.)",
        ),
    ] = False,
    force: options.Force = False,
    device: options.OnDevice = None,
    emulate: options.Emulate = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Serve a model: OpenAI's and Anthropic's API, and a page for a browser. Ctrl-C stops it.

    Other machines reach it only with --lan or --host, and then with a key. A model that is not
    used leaves the memory, and comes back with the next request. `plm-edge ps` shows what runs.
    """
    from plm_edge.engine import accelerators

    if device is not None:
        from plm_edge.cli.serve import on_device

        check_on_device(
            device,
            {"lan": lan, "host": host, "origin": origin, "alias": alias, "rpc": rpc,
             "api_key_file": api_key_file, "parallel": parallel, "speculate": speculate,
             "mlock": mlock, "prompts": prompts},
        )  # fmt: skip
        on_device.serve(
            device, model, port=port, ctx=ctx, threads=threads, kv=kv.value if kv else None,
            gpu_layers=accelerators.parse_layers(gpu), idle=idle, emulate=emulate, force=force,
            detach=detach, json=json,
        )  # fmt: skip
        return
    if emulate:
        raise options.without_device("--emulate", "it serves from this machine")
    from plm_edge.cli.model import say_which
    from plm_edge.cli.serve import here
    from plm_edge.engine import prompt_cache
    from plm_edge.engine import rpc as servers
    from plm_edge.serve.start import Wish
    from plm_edge.store import choice as model_choice

    choice = model_choice.choose(model)
    say_which(choice)
    wish = Wish(
        model=choice.path,
        name=choice.name,
        aliases=(*(alias or ()), *((model,) if model else ())),
        host=host,
        port=port,
        lan=lan,
        origins=tuple(origin or ()),
        key_file=api_key_file,
        n_ctx=ctx,
        parallel=parallel,
        kv=kv.value if kv else None,
        threads=threads,
        sleep_after=idle,
        prompts=prompt_cache.wanted(options.prompts(prompts, no_prompts)),
        force=force,
        rpc=servers.parse(rpc),
        gpu_layers=accelerators.parse_layers(gpu),
        mlock=mlock,
        speculate=speculate,
    )
    here.serve(wish, detach=detach, json=json)


def check_on_device(device: str, given: Mapping[str, Any]) -> None:
    """Refuse options that a server on a device does not have.

    Args:
        device: its name.
        given: what the options say, by the names of their parameters.

    Raises:
        PlmEdgeError: one of them is given (code USAGE).
    """

    if any(given[name] for name in _FOR_HERE) or given["parallel"] != 1:
        raise PlmEdgeError(
            "a server on a device is reached through this machine alone",
            "--lan, --host, --origin, --alias, --api-key-file, --parallel and --speculate are for "
            "servers here",
            "leave them out, or run plm-edge serve on that machine itself",
            ExitCode.USAGE,
        )
    computed = given["rpc"] or given["mlock"]
    if computed or given["prompts"] not in (None, "off"):
        raise options.not_on_device(device)
