"""`convert` makes a GGUF of a checkpoint: it checks everything first, then converts.

    source -> config, tokenizer, tensor map -> types, forms, plan of the file -> blocks of rows
           -> read again and compared

Nothing is written before all checks have passed, nothing takes the target's name before it was read
again, and nothing but the target is left behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gguf import GGMLQuantizationType

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.converters.keys import Keys, string
from plm_edge.converters.plan.choice import COPY, DEFAULT, Choice, choose
from plm_edge.converters.plan.decoded_tensor import turnable
from plm_edge.converters.plan.layout import Form, check_layout, form, in_planes, layout_keys
from plm_edge.converters.plan.metadata import file_keys, model_name
from plm_edge.converters.plan.plm import Kind, TensorSpec
from plm_edge.converters.plan.recipes import FLOATS, typical_error
from plm_edge.converters.sources import hub
from plm_edge.converters.sources.source import Snapshot, Source, is_gguf, open_source
from plm_edge.converters.tensors import Floats, Rows, Tensor
from plm_edge.converters.transposed_tensor import TransposedTensor
from plm_edge.converters.write import provenance
from plm_edge.converters.write.gguf_header import Plan, TensorInfo, plan_file
from plm_edge.converters.write.memory import check_memory, out_of_memory
from plm_edge.converters.write.pipeline import Job, buffer_bytes, run
from plm_edge.converters.write.provenance import SourceHash
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.report import Report, type_totals
from plm_edge.converters.write.verify import verify_file, verify_written
from plm_edge.converters.write.writer import AtomicFile
from plm_edge.engine import library
from plm_edge.machine.memory import peak_rss
from plm_edge.machine.threads import default_jobs
from plm_edge.model.description import ARCH, ROUNDING_KEY, Layout

Q = GGMLQuantizationType


@dataclass(frozen=True)
class Wanted:
    """A matrix as it will be in the file: its values, in the form of the layout, and its type."""

    spec: TensorSpec
    source: Rows
    type: GGMLQuantizationType


class Rounding(Protocol):
    """Quantises matrices in another way than by themselves.

    Attributes:
        name: of the way, for the file's header.
    """

    name: str

    def takes(self, spec: TensorSpec, type_: GGMLQuantizationType) -> bool:
        """Says whether it quantises a tensor to this type."""
        ...

    def round(self, source: Path, wanted: Sequence[Wanted]) -> Mapping[str, Rows]:
        """Returns the matrices by name, quantised.

        Args:
            source: the checkpoint's folder, or the GGUF.
            wanted: what it takes; the values can be read until this returns.
        """
        ...


def convert(
    source: Path,
    *,
    quant: str | None = None,
    recipe: Path | None = None,
    imatrix: Path | None = None,
    layout: str = "edge",
    out: Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    allow_requantize: bool = False,
    revision: str | None = None,
    download: Progress | None = None,
    rounding: Rounding | None = None,
) -> Report:
    """Convert the checkpoint in the folder `source`, the GGUF `source`, or the hub's repository of
    this name, to a GGUF.

    quant: a recipe's name or alias (`recipes.RECIPES`). When `recipe` is not given either, q4_k for
    a checkpoint; of a GGUF each tensor keeps its type.
    recipe: a file with a recipe of one's own (`recipe_file`). imatrix: a file of llama-imatrix.
    layout: "edge" or "stock". out: the file to write, by default `default_out`. threads: by default
    one for each CPU that this process may use. allow_requantize: whether weights that are quantised
    already may be quantised once more. revision: branch, tag or commit of a repository, of whose
    download `download` hears. rounding: quantises some matrices by itself; the recipe is then the
    one for calibrated files.

    Raises:
        PlmEdgeError: anything that the person can mend; `out` is then as it was before.
    """
    started = time.monotonic()
    from_gguf = is_gguf(source)
    choice = choose(
        quant, recipe, imatrix, COPY if from_gguf else DEFAULT, calibrated=rounding is not None
    )
    form_layout = check_layout(layout)
    workers = thread_count(threads)
    snapshot = _snapshot(source, revision, download)
    source = snapshot.folder if snapshot else source
    if out is None:
        named = layout if choice.recipe is None else choice.name if recipe else quant or DEFAULT
        out = default_out(source, named)
    if from_gguf:
        check_is_other(out, source)
    quantizer = Quantizer(library.load().ggml)
    with out_of_memory(), open_source(source, snapshot) as opened:
        parts = _parts(opened, choice, form_layout, quantizer)
        by_rounding = _taken(parts, rounding)
        lossy = [part for part in parts if part.requantises]
        if lossy and not allow_requantize:
            raise _needs_leave(source, lossy)
        way = (
            rounding.name if rounding and by_rounding else choice.recipe is None and opened.rounding
        )
        about = {ROUNDING_KEY: string(way)} if way else {}
        unknown = provenance.unknown_keys(opened.origin, choice.description, len(parts))
        plan = _plan(opened, choice, form_layout, parts, about | unknown)
        jobs = [
            Job(part.tensor, part.info, offset, part.through, part.weights)
            for part, offset in zip(parts, plan.offsets, strict=True)
        ]
        check_memory(max(map(buffer_bytes, jobs)), workers, peak_rss())
        if opened.hashed:
            verify_file(source, quantizer)
        with AtomicFile(out, plan.size) as file, SourceHash(opened.origin.files) as source_hash:
            file.write_at(0, plan.header)
            if rounding is not None and by_rounding:
                made = rounding.round(source, by_rounding)
                jobs = [replace(job, source=made.get(job.target.name, job.source)) for job in jobs]
            written = run(jobs, quantizer, file, workers, progress or NoProgress())
            hashes = verify_written(file, plan, jobs, written, quantizer, workers)
            known = provenance.keys(opened.origin, choice.description, hashes, source_hash.result())
            file.write_at(0, _plan(opened, choice, form_layout, parts, about | known).header)
            file.commit()
    return Report(
        out=out,
        quant=choice.name,
        layout=form_layout,
        types=type_totals(part.info for part in parts),
        size=plan.size,
        threads=workers,
        seconds=time.monotonic() - started,
        peak_rss=peak_rss(),
        warnings=_warnings(choice, parts),
    )


@contextmanager
def open_embedding(source: Path, revision: str | None = None) -> Iterator[Tensor]:
    """Open a checkpoint, and give its token embedding, [tokens, width].

    Raises:
        PlmEdgeError: it is no PLM, or cannot be read.
    """
    snapshot = _snapshot(source, revision, None)
    with open_source(snapshot.folder if snapshot else source, snapshot) as opened:
        yield next(tensor for spec, tensor in opened.pairs if spec.kind is Kind.EMBEDDING)


def check_is_other(out: Path, source: Path) -> None:
    """Refuse to write over what is read.

    Raises:
        PlmEdgeError: both are one file.
    """
    if out.exists() and out.samefile(source):
        raise PlmEdgeError(
            f"{out} is the source itself",
            "the original would be lost",
            "give another --out",
            ExitCode.USAGE,
        )


def _snapshot(source: Path, revision: str | None, progress: Progress | None) -> Snapshot | None:
    """What `source` names on the hub, or None when it is a path."""
    if hub.is_name(source):
        return hub.fetch(str(source), revision, progress)
    if revision is not None:
        raise PlmEdgeError(
            f"--revision {revision} has nothing to do",
            f"{source} is no repository of the hub",
            "leave --revision out, or give OWNER/NAME",
            ExitCode.USAGE,
        )
    return None


def default_out(source: Path, quant: str) -> Path:
    """Returns NAME-QUANT.gguf in the current folder."""
    name = source.stem if source.is_file() else model_name(source)
    return Path(f"{name}-{quant.lower()}.gguf")


@dataclass(frozen=True)
class _Part:
    """A tensor, from where it lies to how it will lie. `fits`: it gets the type that it should."""

    spec: TensorSpec
    tensor: Tensor
    stored: Form
    info: TensorInfo
    through: GGMLQuantizationType | None
    weights: Floats | None
    fits: bool
    present: GGMLQuantizationType

    @property
    def requantises(self) -> bool:
        """Whether weights that lost something to quantisation lose more. f32 holds any of them."""
        if self.present in FLOATS:
            return False
        turned = isinstance(self.tensor, TransposedTensor)
        return self.info.type not in (Q.F32, *([] if turned else [self.present]))


def _parts(source: Source, choice: Choice, layout: Layout, quantizer: Quantizer) -> list[_Part]:
    """
    Raises:
        PlmEdgeError: the recipe or the importance matrix does not fit the model.
    """
    choice.check_used([spec for spec, _ in source.pairs])
    parts = []
    for spec, tensor in source.pairs:
        stored = form(spec, layout)
        present = tensor.source.type if isinstance(tensor, TransposedTensor) else tensor.type
        wanted, type_ = choice.types(spec, stored, layout, source.config.layers, present)
        rounded = spec.kind is not Kind.NORM and (choice.quantised or type_ not in FLOATS)
        parts.append(
            _Part(
                spec,
                turnable(stored.of(tensor), quantizer),
                stored,
                TensorInfo(stored.name, stored.shape, type_, in_planes(spec, layout, type_)),
                source.through if rounded else None,
                choice.weights(spec, stored, type_),
                type_ == wanted,
                present,
            )
        )
    return parts


def _taken(parts: Sequence[_Part], rounding: Rounding | None) -> list[Wanted]:
    return [
        Wanted(part.spec, part.tensor, part.info.type)
        for part in parts
        if rounding is not None
        and part.tensor.type != part.info.type  # what stays as it is was quantised before
        and rounding.takes(part.spec, part.info.type)
    ]


def _plan(source: Source, choice: Choice, layout: Layout, parts: list[_Part], made: Keys) -> Plan:
    """`made`: the keys about who made the file."""
    file_type = choice.file_type(layout) if choice.recipe else source.file_type
    listed = [part.info.name for part in parts if part.info.in_planes]
    keys = source.keys | file_keys(file_type) | layout_keys(layout, listed) | made
    if choice.imatrix is not None:
        keys |= choice.imatrix.keys()
    return plan_file(ARCH, keys, [part.info for part in parts])


def _needs_leave(source: Path, lossy: list[_Part]) -> PlmEdgeError:
    part = lossy[0]
    turned = isinstance(part.tensor, TransposedTensor)
    return PlmEdgeError(
        f"{source.name} is quantised already; {len(lossy)} of its tensors would be a second time",
        f"{part.spec.name} is {part.present.name.lower()}"
        + (", and is to be turned: its blocks lie along the other side" if turned else "")
        + "; the loss of both adds up",
        "convert the original checkpoint, or say --allow-requantize",
        ExitCode.USAGE,
    )


def _warnings(choice: Choice, parts: list[_Part]) -> tuple[str, ...]:
    found = []
    if lossy := [part for part in parts if part.requantises]:
        types = sorted({part.present for part in lossy}, key=lambda t: typical_error(t))
        losses = ", ".join(f"{t.name.lower()} about {typical_error(t):.1%}" for t in types)
        new = max(typical_error(part.info.type) for part in lossy)
        found.append(
            f"{len(lossy)} tensors were quantised already (error of a weight: {losses}), and what "
            f"they are quantised to now adds up to {new:.1%}: the original checkpoint gives a "
            "better file of this size"
        )
    if misfits := sum(not part.fits for part in parts):
        found.append(
            f"{misfits} tensors have rows that {choice.name} cannot divide into its blocks; "
            "they take larger types"
        )
    unweighted = [
        part.spec.name
        for part in parts
        if choice.imatrix is not None
        and part.weights is None
        and part.spec.kind not in (Kind.NORM, Kind.EMBEDDING)
    ]
    if unweighted:
        found.append(
            f"the importance matrix has no entry for {len(unweighted)} tensors, "
            f"{unweighted[0]} among them; they are quantised without"
        )
    return tuple(found)


def thread_count(wanted: int | None) -> int:
    """Returns how many threads compute: `wanted`, or one for each CPU.

    Raises:
        PlmEdgeError: `wanted` is none (code USAGE).
    """
    if wanted is not None:
        if wanted < 1:
            raise PlmEdgeError(
                f"{wanted} threads cannot convert anything",
                "--threads should be 1 or more",
                "leave --threads out to use all cores",
                ExitCode.USAGE,
            )
        return wanted
    return default_jobs()
