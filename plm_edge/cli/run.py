"""`plm-edge run`: continue a prompt, streaming the text as it is made."""

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
    from plm_edge.cli import run_output, run_result
    from plm_edge.engine import chat
    from plm_edge.engine.interrupt import Interrupt
    from plm_edge.engine.log import engine_log
    from plm_edge.engine.sampling import Sampling
    from plm_edge.engine.session import Options, Session
    from plm_edge.store import choice as model_choice

    engine_log.echo = options.debug_wanted
    text = run_output.read_prompt(prompt)
    sampling = Sampling(temp, top_k, top_p, min_p, seed).checked()
    if device is not None:
        from plm_edge.cli import run_there

        wanted = run_there.Wanted(
            text, sampling, None if n_predict < 0 else n_predict, ctx, threads, kv.value,
            raw=raw, stats=stats, json=json, force=force,
        )  # fmt: skip
        run_there.run(device, emulate, model, wanted)
        return
    if emulate:
        raise options.without_device("--emulate", "it runs on this machine")
    choice = model_choice.choose(model)
    run_output.say_which(choice)
    with Interrupt() as interrupt:
        with run_output.loading(choice.path) as on_load:
            session = Session.open(
                choice.path,
                Options(
                    n_ctx=ctx,
                    threads=threads,
                    kv=kv.value,
                    check_memory=not force,
                    stop=interrupt,
                    on_load=on_load,
                ),
            )
        with session:
            run_output.remarks(session)
            encoded = chat.encode(session, text, raw=raw)
            generation = session.generate(
                encoded.tokens, None if n_predict < 0 else n_predict, sampling
            )
            written = run_output.stream(generation, text, echo=not encoded.templated, silent=json)
            run_output.say_why_stopped(generation)
            if stats:
                run_result.show_stats(generation.stats)
            if json:
                about = run_result.described(choice, session)
                run_result.write_json(about, session.engine, encoded, generation, written)
    if generation.stop_reason == "interrupted":
        raise typer.Exit(ExitCode.INTERRUPTED)
