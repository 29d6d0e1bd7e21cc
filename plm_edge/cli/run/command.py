"""`plm-edge run` continues a prompt and streams the text as it is made."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options


def run(
    model: options.Model = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            "-p",
            show_default=False,
            help="The text to continue, or what to say to an instruct model; - reads stdin.",
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            "-f",
            show_default=False,
            help="A file with the prompt, after --prompt if both are given. What is piped in "
            "comes last: cat log | plm-edge run -p explain:",
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            "--system", show_default=False, help="How an instruct model is to answer: its role."
        ),
    ] = None,
    n_predict: Annotated[
        int, typer.Option("--n-predict", "-n", min=-1, help="Most new tokens; -1: no limit.")
    ] = 256,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", show_default=False, help="End before this text; repeatable."),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema",
            show_default=False,
            help="Answer in JSON that this JSON schema admits: a file, or the schema itself.",
        ),
    ] = None,
    grammar: Annotated[
        str | None,
        typer.Option(
            "--grammar",
            show_default=False,
            help="Answer as this grammar in GBNF says: a file, or the grammar itself.",
        ),
    ] = None,
    temp: options.Temp = 0.7,
    top_k: options.TopK = 40,
    top_p: options.TopP = 0.95,
    min_p: options.MinP = 0.05,
    seed: options.Seed = None,
    ctx: options.Ctx = None,
    threads: options.Threads = None,
    kv: options.FittingKV = None,
    raw: Annotated[bool, typer.Option("--raw", help="Do not apply the chat template.")] = False,
    logprobs: Annotated[
        int,
        typer.Option(
            "--logprobs",
            min=0,
            help="With --json: the log probability of each token, and of so many likeliest ones.",
        ),
    ] = 0,
    prompt_cache: options.PromptCache = None,
    no_prompt_cache: options.NoPromptCache = False,
    no_speculate: options.NoSpeculate = False,
    stats: Annotated[bool, typer.Option("--stats", help="Show times, rates, memory.")] = False,
    force: options.Force = False,
    gpu: options.Gpu = "auto",
    rpc: options.Rpc = None,
    mlock: options.MLock = False,
    exact: options.Exact = False,
    device: options.OnDevice = None,
    emulate: options.Emulate = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Continue a prompt. The text goes to stdout, all else to stderr.

    An instruct model gets the prompt within its chat template, a base model as it is.
    """
    from plm_edge.cli import memory
    from plm_edge.cli.run import form as forms
    from plm_edge.cli.run import output, result
    from plm_edge.cli.run import prompt as prompts
    from plm_edge.cli.run.place import setting_of
    from plm_edge.engine.log import engine_log
    from plm_edge.generate.protocol import Message, Request, check_wishes
    from plm_edge.generate.sampling import Sampling

    engine_log.echo = options.debug_wanted
    if system is not None and raw:
        raise _system_is_raw()
    if logprobs and not json:
        raise _logprobs_without_json()
    sampling = Sampling(temp, top_k, top_p, min_p, seed).checked()
    check_wishes(stop or (), logprobs)
    form = forms.read(schema, grammar)
    text = prompts.read(prompt, file, model)
    setting = setting_of(
        model,
        ctx,
        threads,
        kv,
        force,
        gpu=gpu,
        rpc=rpc,
        mlock=mlock,
        prompts=options.prompts(prompt_cache, no_prompt_cache),
    )
    if device is not None:
        from plm_edge.cli.run import there

        opened = there.open_place(device, emulate, setting)
    elif emulate:
        raise options.without_device("--emulate", "it runs on this machine")
    else:
        from plm_edge.cli.run import here

        opened = here.open_place(setting)
    said: str | list[Message] = text
    if system is not None:
        said = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    with opened as place:
        if stats and place.fit:
            memory.show(place.fit, place.offload)
        encoded = place.generator.encode(said, raw=raw)
        with output.reading() as on_prefill:
            generation = place.generator.generate(
                Request(
                    encoded.tokens,
                    None if n_predict < 0 else n_predict,
                    sampling,
                    tuple(stop or ()),
                    grammar=form.grammar,
                    logprobs=logprobs,
                    speculate=not no_speculate,
                    on_prefill=on_prefill,
                )
            )
            if json:
                written = generation.whole()
            else:
                written = output.stream(generation, text, echo=not encoded.templated)
        output.say_why_stopped(generation)
    error = forms.verdict(form, generation, written)
    if stats:
        result.show_stats(generation.stats)
    if json:
        valid = None if form.schema is None else error is None
        result.write_json(place, encoded, generation, written, valid)
    if generation.stop_reason == "interrupted":
        raise typer.Exit(ExitCode.INTERRUPTED)
    if error:
        raise error


def _system_is_raw() -> PlmEdgeError:
    return PlmEdgeError(
        "--system needs the chat template",
        "--raw sends the prompt as it is, and the template alone says where a system prompt stands",
        "leave one of the two out",
        ExitCode.USAGE,
    )


def _logprobs_without_json() -> PlmEdgeError:
    return PlmEdgeError(
        "--logprobs is a part of --json",
        "the text on stdout has no place for log probabilities",
        "add --json, or leave --logprobs out",
        ExitCode.USAGE,
    )
