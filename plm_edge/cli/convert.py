"""`plm-edge convert` makes a quantised GGUF from a checkpoint."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import calibration, embedding, options, quants
from plm_edge.cli.bar import Bar
from plm_edge.store import registry

if TYPE_CHECKING:
    from plm_edge.converters.embed.spec import Spec
    from plm_edge.converters.tensors import Rows
    from plm_edge.converters.write.report import Report
    from plm_edge.quality.calibration import Calibrated
    from plm_edge.quality.embedding import Embedded


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
            help="A text that the model reads: its weights are then rounded with less harm, and it "
            "reads less for a token (docs/models.md); default is a text of ours. A GGUF of another "
            "model can be calibrated, too.",
        ),
    ] = None,
    embed: Annotated[
        str | None,
        typer.Option(
            metavar="FORM",
            help="Store the token embedding in another way (docs/embeddings.md): type=q4_k, "
            "split=8192:q5_k/q3_k, r1, r1,split=8192:q5_k/q3_k, tt:ratio=2.0, or "
            "tt:dims=32x64,ranks=10,cores=q8_0. Of a GGUF, of any model, nothing else changes.",
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="edge for plm-edge, stock for every program based on llama.cpp, and for GPUs by "
            "Metal or OpenCL, which lack the sparse product."
        ),
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
    from plm_edge.converters.convert import thread_count
    from plm_edge.converters.plan.layout import check_layout
    from plm_edge.converters.sources.source import is_gguf

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
    thread_count(threads)  # what cannot be is said before anything is done
    form = check_layout(layout)
    spec = None if embed is None else embedding.read(embed)
    words = None if calibrate is None else calibration.read(calibrate)
    plain = quant is None and recipe is None
    # a PLM in the other layout is a conversion of all matrices
    stays = form == "edge" or _is_of_others(checkpoint)
    if spec is not None and plain and is_gguf(checkpoint) and stays:
        wish = _Wish(spec, None, imatrix, words, form == "edge", threads)
        _embed_only(checkpoint, wish, embedding.kind(spec), out, json=json)
        return
    if words is not None and plain and imatrix is None and _is_of_others(checkpoint):
        _calibrate_only(checkpoint, words, out, threads, json=json)
        return
    with embedding.rows(checkpoint, revision, spec) as rows:
        with calibration.goes_on(words), console.progress(in_bytes=words is None) as display:
            rounding = (
                None
                if words is None
                else calibration.rounding(words, threads, display, embedding=spec is None)
            )
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
                rounding=rounding,
            )
        if rounding is not None:
            rounding.forget()
        try:
            # A path is made absolute; the name of a repository stays as it is.
            source = checkpoint.absolute() if checkpoint.exists() else checkpoint
            registry.add_model(report.out, source, report.quant)
        except OSError as error:
            console.warn(f"the file is written, but not remembered for `plm-edge run`: {error}")
        for warning in report.warnings:
            console.warn(warning)
        if rounding is not None:
            calibration.show_rounding(rounding.matrices, report.layout)
        # Other programs, which the stock layout is for, know no coarse form.
        coarse = report.layout != "stock"
        try:
            further = _Wish(spec, rows, imatrix, words, coarse, threads)
            made = further.run(report.out, report.out)
        except BaseException:
            console.note(f"{report.out} is written, and no more was done to it")
            raise
    if json:
        said = {**report.as_dict(), **made.as_dict()}
        if rounding is not None:
            found = {"rounded_matrices": rounding.matrices}
            said["calibration"] = found | said.get("calibration", {})
        console.emit_json({"schema": "plm-edge/convert/1", **said})
        return
    _show(report)
    made.show()


@dataclass(frozen=True)
class _Further:
    """What was done to a file that was there."""

    embedded: Embedded | None
    calibrated: Calibrated | None

    def as_dict(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self.embedded:
            made["embedding"] = embedding.as_dict(self.embedded)
        if self.calibrated:
            made["calibration"] = calibration.as_dict(self.calibrated)
        return made

    def show(self) -> None:
        if self.embedded:
            embedding.show(self.embedded)
        if self.calibrated:
            calibration.show(self.calibrated)


@dataclass(frozen=True)
class _Wish:
    """What is to be done to a file that is there.

    Attributes:
        spec: of `--embed`.
        rows: the embedding of the checkpoint, where there is one.
        words: of `--calibrate`.
        coarse: the output matrix gets a coarse form by them.
    """

    spec: Spec | None
    rows: Rows | None
    imatrix: Path | None
    words: str | None
    coarse: bool
    threads: int | None

    def run(self, model: Path, target: Path) -> _Further:
        """Do it; the target stays what it is until all is done."""
        words = self.words if self.coarse else None
        if self.spec is None or words is None:
            return _Further(self._embed(model, target), self._calibrate(model, target, words))
        with tempfile.TemporaryDirectory(dir=target.resolve().parent, prefix=".embed-") as folder:
            beside = Path(folder) / target.name
            embedded = self._embed(model, beside)
            calibrated = self._calibrate(beside, target, words)
        assert embedded is not None
        assert calibrated is not None
        return _Further(replace(embedded, out=target, size=calibrated.size), calibrated)

    def _embed(self, model: Path, target: Path) -> Embedded | None:
        if self.spec is None:
            return None
        given = self.rows, self.imatrix, self.words
        return embedding.run(model, self.spec, target, *given, self.threads)

    def _calibrate(self, model: Path, target: Path, words: str | None) -> Calibrated | None:
        return None if words is None else calibration.run(model, words, target, self.threads)


def _embed_only(model: Path, wish: _Wish, kind: str, out: Path | None, *, json: bool) -> None:
    from plm_edge.converters.convert import check_is_other

    target = out or Path(f"{model.stem}-{kind}.gguf")
    check_is_other(target, model)
    calibration.check_place(target)
    made = wish.run(model, target)
    with contextlib.suppress(OSError):
        registry.add_model(target, model.absolute(), "")
    if json:
        console.emit_json({"schema": "plm-edge/embed/1", "out": str(target), **made.as_dict()})
    else:
        made.show()


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
    console.show_facts(
        {
            "file": f"{report.out}, {console.size(report.size)}",
            "recipe": f"{report.quant}, layout {report.layout}",
            "time": f"{console.duration(report.seconds)}, {report.threads} threads",
            "peak memory": console.size(report.peak_rss),
        }
    )
