"""`plm-edge run` continues a prompt and streams the text as it is made."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.base.errors import ExitCode
from plm_edge.cli import options


def run(
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="The text to continue; - reads stdin.")
    ],
    model: options.Model = None,
    n_predict: Annotated[
        int, typer.Option("--n-predict", "-n", min=-1, help="Most new tokens; -1: no limit.")
    ] = 256,
    temp: Annotated[float, typer.Option(help="Temperature; 0 is greedy.")] = 0.7,
    top_k: Annotated[int, typer.Option(help="Draw from the likeliest tokens; 0: all.")] = 40,
    top_p: Annotated[float, typer.Option(help="Draw from this share of probability.")] = 0.95,
    min_p: Annotated[float, typer.Option(help="Drop what is below this share of the best.")] = 0.05,
    seed: Annotated[
        int | None, typer.Option(help="Of the random numbers.", show_default="random")
    ] = None,
    ctx: options.Ctx = None,
    threads: options.Threads = None,
    kv: options.KV = options.KVType.f16,
    raw: Annotated[bool, typer.Option("--raw", help="Do not apply the chat template.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Show times, rates, memory.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Load even if memory is short.")] = False,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Run it there, where `deploy` put it.", show_default=False),
    ] = None,
    emulate: options.Emulate = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Continue a prompt. The text goes to stdout, all else to stderr."""
    from plm_edge.cli.run import output, result
    from plm_edge.cli.run.place import Setting
    from plm_edge.engine.log import engine_log
    from plm_edge.generate.protocol import Request
    from plm_edge.generate.sampling import Sampling

    engine_log.echo = options.debug_wanted
    text = output.read_prompt(prompt)
    sampling = Sampling(temp, top_k, top_p, min_p, seed).checked()
    setting = Setting(model, ctx, threads, kv.value, force)
    if device is not None:
        from plm_edge.cli.run import there

        opened = there.open_place(device, emulate, setting)
    elif emulate:
        raise options.without_device("--emulate", "it runs on this machine")
    else:
        from plm_edge.cli.run import here

        opened = here.open_place(setting)
    with opened as place:
        encoded = place.generator.encode(text, raw=raw)
        limit = None if n_predict < 0 else n_predict
        generation = place.generator.generate(Request(encoded.tokens, limit, sampling))
        if json:
            written = generation.whole()
        else:
            written = output.stream(generation, text, echo=not encoded.templated)
        output.say_why_stopped(generation)
    if stats:
        result.show_stats(generation.stats)
    if json:
        result.write_json(place, encoded, generation, written)
    if generation.stop_reason == "interrupted":
        raise typer.Exit(ExitCode.INTERRUPTED)
