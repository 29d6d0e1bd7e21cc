"""From a checkpoint to a GGUF, in the order of a careful person: check everything, then convert.

    source -> config, tokenizer, tensor map -> types, forms, plan of the file -> blocks of rows

Nothing is written before all checks have passed, and nothing but the target is left behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from gguf import GGMLQuantizationType

from converters.checkpoint import Checkpoint, check_folder
from converters.config import parse_config
from converters.gguf_header import TensorInfo, plan_file
from converters.json_file import read_json
from converters.layout import check_layout, form, layout_keys
from converters.metadata import file_keys, general_keys, model_name
from converters.pipeline import Job, Progress, Silent, run
from converters.plm import ARCH, Kind, match_tensors, model_keys
from converters.quantize import Quantizer
from converters.recipes import Recipe, find_recipe, fitting_type, wanted_type
from converters.report import Report, peak_rss, type_totals
from converters.tensors import Tensor, columns
from converters.tokenizer import tokenizer_keys
from converters.writer import AtomicFile
from plm_edge.engine import library
from plm_edge.errors import ExitCode, PlmEdgeError

Q = GGMLQuantizationType


def convert(
    source: Path,
    *,
    quant: str = "q4_k",
    layout: str = "edge",
    out: Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Convert the checkpoint in the folder `source` to a GGUF.

    quant: a recipe's name or alias (`recipes.RECIPES`). layout: "edge" or "stock". out: the file
    to write, by default `default_out`. threads: by default one for each CPU that this process may
    use.

    Raises:
        PlmEdgeError: anything that the person can mend; `out` is then as it was before.
    """
    started = time.monotonic()
    recipe_name, recipe = find_recipe(quant)
    form_layout = check_layout(layout)
    workers = _threads(threads)
    out = default_out(source, quant) if out is None else out
    # Before the weights: what is no PLM should be told so, whatever its weights look like.
    check_folder(source)
    raw_config = read_json(source / "config.json")
    config = parse_config(raw_config)
    quantizer = Quantizer(library.load().ggml)
    with Checkpoint(source) as checkpoint:
        pairs = match_tensors(config, checkpoint.tensors)
        infos, misfits = [], 0
        for spec, _ in pairs:
            stored = form(spec, form_layout)
            wanted = wanted_type(recipe, spec, config.layers)
            chosen = fitting_type(wanted, columns(stored.shape))
            infos.append(TensorInfo(stored.name, stored.shape, chosen))
            misfits += chosen != wanted
        keys = (
            general_keys(source, sum(info.elements for info in infos))
            | model_keys(config)
            | tokenizer_keys(source, config.vocab, raw_config)
            | file_keys(recipe.file_type)
            | layout_keys(form_layout)
        )
        plan = plan_file(ARCH, keys, infos)
        with AtomicFile(out, plan.size) as file:
            file.write_at(0, plan.header)
            through = _through(recipe, checkpoint.tensors.values())
            jobs = [
                Job(
                    form(spec, form_layout).of(tensor),
                    *(info, offset, None if spec.kind is Kind.NORM else through),
                )
                for (spec, tensor), info, offset in zip(pairs, infos, plan.offsets, strict=True)
            ]
            run(jobs, quantizer, file, workers, progress or Silent())
            file.commit()
    return Report(
        out=out,
        quant=recipe_name,
        layout=form_layout,
        types=type_totals(infos),
        size=plan.size,
        threads=workers,
        seconds=time.monotonic() - started,
        peak_rss=peak_rss(),
        warnings=_warnings(recipe_name, misfits),
    )


def default_out(source: Path, quant: str) -> Path:
    """NAME-QUANT.gguf in the current folder."""
    return Path(f"{model_name(source)}-{quant.lower()}.gguf")


def _through(recipe: Recipe, tensors: Iterable[Tensor]) -> GGMLQuantizationType | None:
    """The 16-bit type that a matrix passes through on its way to a quantised type.

    Upstream quantises a GGUF that its converter wrote before. By default (--outtype auto) that one
    is bf16 when the first matrix of the checkpoint is, else f16. From a bf16 or f16 checkpoint
    nothing is lost on that way; from an f32 one 13 bits of the mantissa are, far below what a
    quantised type resolves, and files with the same bits as everybody's are worth more than those.
    """
    if not recipe.quantised:
        return None
    first = next(tensor.type for tensor in tensors if len(tensor.shape) > 1)
    return Q.BF16 if first == Q.BF16 else Q.F16


def _warnings(recipe: str, misfits: int) -> tuple[str, ...]:
    if not misfits:
        return ()
    return (
        f"{misfits} tensors have rows that {recipe} cannot divide into its blocks; "
        "they take larger types",
    )


def _threads(wanted: int | None) -> int:
    if wanted is not None:
        if wanted < 1:
            raise PlmEdgeError(
                f"{wanted} threads cannot convert anything",
                "--threads should be 1 or more",
                "leave --threads out to use all cores",
                ExitCode.USAGE,
            )
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
