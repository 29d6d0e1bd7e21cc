"""`plm-edge chat` opens a conversation and a model, and lets a person talk."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.spa import shared

LAST = ""  # what -c has without a name
_CONTINUE = ("-c", "--continue")


class Chat(TyperCommand):
    """The command: its -c takes a name or none, which typer's options cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_names(args))


def with_names(arguments: list[str]) -> list[str]:
    """Returns a command line in which each -c has a value: the name after it, or LAST.

    What follows -c is the name of a chat, unless it looks like a model: a path, a file, or
    USER/REPO:QUANT.
    """
    changed: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*changed, word, *rest]
        if word not in _CONTINUE:
            changed.append(word)
            continue
        following = rest[0] if rest else "-"
        is_model = "/" in following or following.endswith(".gguf") or Path(following).is_file()
        named = not following.startswith("-") and not is_model
        changed.append(f"--continue={rest.pop(0) if named else LAST}")
    return changed


def chat(
    model: options.Model = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--continue",
            "-c",
            metavar="[NAME]",
            help="Go on with the last chat, or with the one of that name.",
            show_default=False,
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the chats that there are.")] = False,
    system: Annotated[
        str | None,
        typer.Option("--system", "-s", help="What the model is told first.", show_default=False),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="A full context is an error; no turn is dropped for it."),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep the chat in a file as it goes.")
    ] = True,
    n_predict: Annotated[
        int | None,
        typer.Option(
            "--n-predict",
            "-n",
            min=-1,
            help="Most new tokens of an answer; -1: no limit.",
            show_default="no limit; 256 without a chat template",
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
    raw: Annotated[
        bool, typer.Option("--raw", help="Do not apply the chat template: continue the text.")
    ] = False,
    prompt_cache: options.PromptCache = None,
    no_prompt_cache: options.NoPromptCache = False,
    no_speculate: options.NoSpeculate = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Show times, rates, memory after each answer.")
    ] = False,
    force: options.Force = False,
    gpu: options.Gpu = "auto",
    rpc: options.Rpc = None,
    mlock: options.MLock = False,
    exact: options.Exact = False,
    alone: Annotated[
        bool,
        typer.Option("--no-server", help="Load the model here, though a running server has it."),
    ] = False,
    device: options.OnDevice = None,
    emulate: options.Emulate = False,
    spa: Annotated[
        Path | None,
        typer.Option(help="A personal plugin (docs/spa.md); MODEL is its base here, if there is."),
    ] = None,
    server: shared.Server = None,
    fingerprint: shared.Fingerprint = None,
    key_file: shared.KeyFile = None,
    mode: shared.Mode = shared.ModeName.open,
    show: shared.Show = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="With --list: one JSON object on stdout."),
    ] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Talk with a model. In a pipe, answer what stdin says, once.

    The chat is saved as it goes; -c goes on with it. /help lists what can be typed.
    """
    if spa is not None:  # before what brings numpy
        shared.spare_threads()
    from plm_edge.cli.chat import listing

    if listed:
        listing.show(json=json)
        return
    if json:
        raise listing.json_alone()
    if spa is None:
        _of_a_plugin(
            {
                "--server": server is not None,
                "--fingerprint": fingerprint is not None,
                "--key-file": key_file is not None,
                f"--mode {mode.value}": mode is not shared.ModeName.open,
                "--show": show,
            }
        )
    elif device is not None or emulate:
        raise PlmEdgeError(
            f"chat --spa does not go with {'--emulate' if device is None else '--device'}",
            "a chat with a plugin is held here: only its base may be elsewhere",
            "leave it out; plm-edge spa run --device makes a text on a device with a plugin",
            ExitCode.USAGE,
        )
    from plm_edge.chat.chat import Setting
    from plm_edge.cli.chat import once, opening, talk
    from plm_edge.cli.run.place import setting_of
    from plm_edge.cli.spa import place as beside
    from plm_edge.engine.log import engine_log
    from plm_edge.generate.sampling import Sampling

    engine_log.echo = options.debug_wanted
    sampling = Sampling(temp, top_k, top_p, min_p, seed).checked()
    setting = Setting(replace(sampling, seed=seed), n_predict, strict, not no_speculate)
    question = None if sys.stdin.isatty() else once.read_question()
    where = setting_of(
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
    reason = None
    alone = alone or no_prompt_cache  # a server may keep prompts
    with (
        opening.opened(resume, where, alone=alone) as start,
        beside.open_place(
            spa, beside.Where(server, fingerprint, key_file, mode, model, threads, ctx), show=show
        )
        if spa is not None
        else start.place(device, emulate) as place,
    ):
        talking = opening.begin(start, place, setting, system=system, keep=keep, raw=raw)
        if question is None:
            talk.Talk(talking, place, stats=stats).run()
        else:
            reason = once.answer(talking, question, stats=stats)
    if reason == "interrupted":
        raise typer.Exit(ExitCode.INTERRUPTED)


def _of_a_plugin(given: dict[str, bool]) -> None:
    """Refuse options that say where a plugin's base is, or what is shown of it, without one."""
    for option, is_given in given.items():
        if is_given:
            raise PlmEdgeError(
                f"{option} without --spa",
                "it is for a personal plugin, whose base may be on a server",
                f"give --spa PLUGIN, or leave {option} out",
                ExitCode.USAGE,
            )
