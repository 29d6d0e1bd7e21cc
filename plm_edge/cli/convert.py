"""`plm-edge convert` makes a quantised GGUF from a checkpoint."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import calibration, options, quants
from plm_edge.cli.bar import Bar
from plm_edge.store import registry

if TYPE_CHECKING:
    from plm_edge.converters.write.report import Report


def convert(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CKPT",
            help="A folder with config.json, weights and tokenizer.json, a GGUF, or the name of a "
            "repository on the Hugging Face hub.",
            show_default=False,
        ),
    ] = None,
    quant: Annotated[
        str | None,
        typer.Option(
            help="How finely the weights are stored; see --list-quants.",
            show_default="q4_k; of a GGUF, as they are",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file instead: base = llama.cpp's mixture, \\[types] = pattern to type."
        ),
    ] = None,
    imatrix: Annotated[
        Path | None,
        typer.Option(help="An importance matrix, made by plm-edge imatrix or llama-imatrix."),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|default",
            help="A text that the model reads, so that it later reads less for a token "
            "(docs/models.md); default is a text of ours. A GGUF of another model can be "
            "calibrated, too.",
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(help="edge for plm-edge, stock for every program based on llama.cpp."),
    ] = "edge",
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write.", show_default="NAME-QUANT.gguf, here"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads.", show_default="one for each CPU")
    ] = None,
    allow_requantize: Annotated[
        bool,
        typer.Option("--allow-requantize", help="Quantise weights that are quantised already."),
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of the repository.", show_default="main"),
    ] = None,
    list_quants: Annotated[
        bool,
        typer.Option("--list-quants", help="Show what --quant takes, and convert nothing."),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Convert a PLM checkpoint to a GGUF. The file appears when it is whole, or not at all."""
    from plm_edge.converters.write import memory

    memory.check_start()
    from plm_edge.converters.convert import convert as run

    if list_quants:
        quants.show(layout, json=json)
        return
    if checkpoint is None:
        raise PlmEdgeError(
            "there is nothing to convert",
            "the command line has no CKPT",
            "plm-edge convert FOLDER; see plm-edge convert --help",
            ExitCode.USAGE,
        )
    words = None if calibrate is None else calibration.read(calibrate)
    plain = quant is None and recipe is None and imatrix is None
    if words is not None and plain and _is_of_others(checkpoint):
        _calibrate_only(checkpoint, words, out, threads, json=json)
        return
    with console.progress() as display:
        report = run(
            checkpoint,
            quant=quant,
            recipe=recipe,
            imatrix=imatrix,
            layout=layout,
            out=out,
            threads=threads,
            progress=Bar(display, "converting"),
            allow_requantize=allow_requantize,
            revision=revision,
            download=Bar(display, "downloading"),
        )
    try:
        # A path is made absolute; the name of a repository stays as it is.
        source = checkpoint.absolute() if checkpoint.exists() else checkpoint
        registry.add_model(report.out, source, report.quant)
    except OSError as error:
        console.warn(f"the file is written, but not remembered for `plm-edge run`: {error}")
    for warning in report.warnings:
        console.warn(warning)
    try:
        made = None if words is None else calibration.run(report.out, words, report.out, threads)
    except BaseException:
        console.note(f"{report.out} is written, and not calibrated")
        raise
    if json:
        added = {"calibration": calibration.as_dict(made)} if made else {}
        console.emit_json({"schema": "plm-edge/convert/1", **report.as_dict(), **added})
        return
    _show(report)
    if made:
        calibration.show(made)


def _calibrate_only(
    model: Path, words: str, out: Path | None, threads: int | None, *, json: bool
) -> None:
    from plm_edge.converters.convert import check_is_other

    target = out or Path(f"{model.stem}-calibrated.gguf")
    check_is_other(target, model)
    calibration.check_place(target)
    made = calibration.run(model, words, target, threads)
    with contextlib.suppress(OSError):
        registry.add_model(target, model.absolute(), "")
    if json:
        made_json = {"out": str(made.out), **calibration.as_dict(made)}
        console.emit_json({"schema": "plm-edge/calibrate/1", **made_json})
    else:
        calibration.show(made)


def _is_of_others(path: Path) -> bool:
    """Whether it is a GGUF of another model than PLM, which can only be calibrated."""
    from plm_edge.converters.sources.source import is_gguf
    from plm_edge.model import gguf_file
    from plm_edge.model.description import ARCH

    return is_gguf(path) and gguf_file.read(path).architecture != ARCH


def _show(report: Report) -> None:
    table = console.table("type", "tensors", "size", "bits a weight", right=(1, 2, 3))
    for total in (*report.types, report.total):
        table.add_row(
            console.cell(total.type),
            console.cell(total.tensors),
            console.cell(console.size(total.size)),
            console.cell(f"{total.bits_per_weight:.2f}"),
            style="bold" if total.type == report.total.type else "",
        )
    console.out.print(table)
    console.out.print()
    about = console.table("", "")
    for name, value in {
        "file": f"{report.out}, {console.size(report.size)}",
        "recipe": f"{report.quant}, layout {report.layout}",
        "time": f"{console.duration(report.seconds)}, {report.threads} threads",
        "peak memory": console.size(report.peak_rss),
    }.items():
        about.add_row(console.cell(name, "dim"), console.cell(value))
    console.out.print(about)
