"""`plm-edge eval` says how well a model predicts a text, and how far it is from a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.quality import text_options

if TYPE_CHECKING:
    from plm_edge.quality.evaluation import Evaluation
    from plm_edge.quality.figures import Estimate

SCHEMA = "plm-edge/eval/1"


def evaluate(
    model: options.Model = None,
    text: text_options.Text = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="What counts as right: a GGUF of the same model, or its checkpoint's folder, "
            "which torch computes.",
            show_default=False,
        ),
    ] = None,
    ctx: Annotated[
        int, typer.Option(min=4, help="Tokens of a chunk; the second half of each is judged.")
    ] = 512,
    chunks: text_options.Chunks = None,
    kv: options.KV = options.KVType.f16,
    threads: options.Threads = None,
    reference_cache: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Most disk for the predictions of references, which make the next comparison "
            "cheap; off keeps none.",
            show_default="4G, at most 10 % of what is free",
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Instead of a text, tasks of lm-evaluation-harness, such as arc_easy,hellaswag. "
            "Their data comes from the Hugging Face hub.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Most questions of each task.", show_default="all")
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(min=0, help="Examples before each question.", show_default="as the task says"),
    ] = None,
    include: Annotated[
        Path | None, typer.Option(help="A folder with tasks of your own.", show_default=False)
    ] = None,
    as_chat: Annotated[
        bool, typer.Option("--chat", help="Ask the tasks in the model's chat template.")
    ] = False,
    run_code: Annotated[
        bool,
        typer.Option(
            help="Let tasks such as humaneval and mbpp run the programs that the model writes: on "
            "this machine, as you, in no sandbox.",
        ),
    ] = False,
    switches: Annotated[
        bool,
        typer.Option(
            "--switches",
            help="Instead, what each switch of the engine changes against all of them off: whether "
            "it is exact, rounds, or approximates.",
        ),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Measure a model's perplexity on a text, as llama-perplexity does, and with --reference how
    far its predictions are from those of another. Interrupted, it goes on when it is run again.

    With --tasks, run tasks of lm-evaluation-harness instead; with --switches, measure the engine.
    """
    from plm_edge.cli.bar import Bar
    from plm_edge.cli.model import say_which
    from plm_edge.cli.quality import resumable, switch_results, task_results
    from plm_edge.engine.options import Options
    from plm_edge.quality import evaluation
    from plm_edge.quality import text as texts
    from plm_edge.store import choice

    if tasks is not None:
        of_text = {"--text": text, "--reference": reference, "--chunks": chunks}
        _refuse_others("--tasks", {**of_text, "--switches": switches or None})
        task_results.run(
            model, tasks, shots=shots, limit=limit, include=include, chat=as_chat,
            run_code=run_code, kv=kv.value, threads=threads, json=json,
        )  # fmt: skip
        return
    of_tasks = {"--limit": limit, "--shots": shots, "--include": include, "--chat": as_chat or None}
    of_tasks["--run-code"] = run_code or None
    _refuse_others("a text", of_tasks)
    words = texts.read(text or texts.BUNDLED)
    if switches:
        _refuse_others("the engine", {"--reference": reference, "--threads": threads})
        switch_results.run(model, words, chunks, json=json)
        return
    most = _limit(reference_cache)
    against = None if reference is None else _reference(reference)
    chosen = choice.choose(model)
    say_which(chosen)
    with resumable.interrupt() as stop, console.progress(in_bytes=False) as display:
        settings = evaluation.Settings(
            ctx, chunks, Options(kv=kv.value, threads=threads, stop=stop), most
        )
        bar = Bar(display, "judging chunks")
        found = evaluation.evaluate(chosen.path, words, against, settings, bar)
    if json:
        console.emit_json(
            {
                "schema": SCHEMA,
                "model": str(chosen.path),
                "text": str(text or texts.BUNDLED),
                "reference": str(against) if against else None,
                **_plain(asdict(found)),
            }
        )
    else:
        _show(found)


def _refuse_others(mode: str, others: Mapping[str, object]) -> None:
    """Options that would change nothing are a slip."""
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise PlmEdgeError(
            f"{given[0]} has nothing to do",
            f"what is evaluated is {mode}" if mode != "--tasks" else "--tasks brings its own texts",
            f"leave {given[0]} out, or see plm-edge eval --help",
            ExitCode.USAGE,
        )


def _reference(given: str) -> Path:
    from plm_edge.store import choice

    path = choice.locate(given)
    if not path.is_dir():
        choice.check_is_gguf(path)
    return path


def _limit(given: str | None) -> int | None:
    from plm_edge.base import sizes

    if given is None:
        return None
    found = 0 if given.lower() == "off" else sizes.parse(given)
    if found is None:
        raise PlmEdgeError(
            f"{given!r} is no size",
            "--reference-cache takes a size, or off",
            "give one such as 500M or 8G",
            ExitCode.USAGE,
        )
    return found


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Estimates as {value, error}."""
    return {
        name: {"value": value[0], "error": value[1]}
        if isinstance(value, tuple)
        else _plain(value)
        if isinstance(value, dict)
        else value
        for name, value in found.items()
    }


def _show(found: Evaluation) -> None:
    table = console.table("", "")
    p, other = found.perplexity, found.comparison

    def row(name: str, value: str) -> None:
        table.add_row(console.cell(name, "dim"), console.cell(value))

    row("perplexity", _with_error(p.value, 4))
    row("nats a token", _with_error(p.nats, 5))
    if other is not None:
        row("of the reference", _with_error(other.reference.value, 4))
        row("ln of their ratio", _with_error(other.ln_ratio, 5))
        row("KL divergence, mean", f"{_with_error(other.mean, 6)} nats a token")
        row("median, 90 %, 99 %", f"{other.median:.6f}, {other.p90:.6f}, {other.p99:.6f}")
        row("largest", f"{other.max:.6f}")
        row("same likeliest token", _percent(other.same_top))
        row("change of probability", f"{_percent(other.p_change)} points")
        row("root mean square of it", f"{_percent(other.p_change_rms)} points")
        low, high = 100 * other.p_change_p1, 100 * other.p_change_p99
        row("1 % and 99 % of tokens", f"change by less than {low:.2f} and {high:.2f} % points")
    where = f"{found.chunks} chunks of {found.n_ctx}; cache {found.kv}"
    row("judged", f"{p.tokens:,} tokens, in {where}")
    console.out.print(table)
    if found.resumed:
        console.note(f"{found.resumed} chunks were judged before the interruption")
    if found.kept:
        console.note(f"the reference's predictions of {found.kept} chunks were kept from before")


def _with_error(found: Estimate, digits: int) -> str:
    return f"{found.value:.{digits}f} ± {found.error:.{digits}f}"


def _percent(found: Estimate) -> str:
    return f"{100 * found.value:.2f} ± {100 * found.error:.2f} %"
