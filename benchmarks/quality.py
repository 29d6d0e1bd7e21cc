"""What each type costs tiny-plm, by layout, with an importance matrix and without.

    python -m benchmarks.quality [--windows 8] [--no-speed] [--only TYPE,…] [--out FILE.json]
    python -m benchmarks.quality --speed          # only the decode speed of what is there

For each type that `convert` takes: bytes, bits a weight, perplexity, KL divergence from the f32
model, and decode speed, in llama.cpp's own layout and mixture (stock) and in ours (edge). Judged on
files of the standard library that neither trained tiny-plm nor chose a mixture of the edge layout
(benchmarks/recipes.py); the importance matrix is made from those that chose. A row of the edge
layout is compared with stock's token by token. Then what smaller types of the cache cost over its
full context. The speeds of all files are measured in turns, on one thread. BENCHMARKS.md is written
anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import beforehand, machine, origin, recipes, report
from benchmarks.divergence import CHECKPOINT, detokenised, held_out_windows
from benchmarks.quality_report import Row, plot
from benchmarks.refusal import three_lines
from plm_edge.base import files
from plm_edge.converters.convert import convert
from plm_edge.converters.plan.recipes import RECIPES
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.model import gguf_file
from plm_edge.quality import evaluation, figures, imatrix, long_context
from plm_edge.quality.figures import Values
from plm_edge.quality.sums import Reading
from testkit.checkout import ROOT

SCHEMA = "plm-edge/benchmark-quality/1"
LAYOUTS = ("stock", "edge")
N_CTX = 512
OPTIONS = Options(kv="f32", threads=1)
ROUNDS = 5  # of decode speed
EXACT = ("f32", "f16", "bf16", "q8_0")  # which an importance matrix does not change


@dataclass(frozen=True)
class Case:
    """A row: a type in a layout, with an importance matrix or without."""

    quant: str
    layout: str
    imatrix: bool

    @property
    def name(self) -> str:
        return f"{self.quant}-{self.layout}{'-imatrix' if self.imatrix else ''}"

    def convert(self, out: Path, matrix: Path) -> Path:
        given = matrix if self.imatrix else None
        convert(CHECKPOINT, quant=self.quant, layout=self.layout, imatrix=given, out=out)
        return out


def cases(only: Collection[str] | None) -> list[Case]:
    """All rows, or those of some types; stock's before ours."""
    return [
        Case(quant, layout, weighted)
        for quant, recipe in RECIPES.items()
        for weighted in (False, True)
        for layout in LAYOUTS
        if (only is None or quant in only)
        and not (recipe.needs_imatrix and not weighted)
        and not (quant in EXACT and weighted)
    ]


class Texts:
    """tiny-plm in f32, the text that judges, and an importance matrix of another."""

    def __init__(self, folder: Path, windows: int) -> None:
        self.f32, self.matrix = folder / "f32.gguf", folder / "imatrix.gguf"
        convert(CHECKPOINT, quant="f32", layout="stock", out=self.f32)
        chosen = held_out_windows(recipes.WINDOWS + windows)
        self.judged = detokenised(self.f32, chosen[recipes.WINDOWS :])
        self.seen = detokenised(self.f32, chosen[: recipes.WINDOWS])
        imatrix.collect(self.f32, self.seen, Reading(N_CTX, None, OPTIONS)).write(
            self.matrix, "held out"
        )


def decode_seconds(model: Path, tokens: int = 200) -> float:
    """Seconds a token, one token at a time from an empty context on, on one thread."""
    options = Options(n_ctx=N_CTX, threads=1, kv="f16")
    with Session.open(model, options) as session:
        session.context.append([1])
        started = time.perf_counter()
        for token in range(2, tokens + 2):
            session.context.append([token])
        return (time.perf_counter() - started) / tokens


def measure_speed(folder: Path, texts: Texts, rows: list[Row]) -> None:
    """Give each row its decode times, ROUNDS of them, in turns: what disturbs one round disturbs
    all rows alike."""
    made = []
    for row in rows:
        case = Case(row["quant"], row["layout"], row["imatrix"])
        made.append(case.convert(folder / f"{case.name}.gguf", texts.matrix))
        row["decode_s"] = []
    for number in range(ROUNDS + 1):
        for row, model in zip(rows, made, strict=True):
            seconds = decode_seconds(model)
            if number:  # the first warms up
                row["decode_s"].append(seconds)
        print(f"decode speed, round {number} of {ROUNDS}", file=sys.stderr, flush=True)


def measure(folder: Path, texts: Texts, only: Collection[str] | None) -> list[Row]:
    """The rows, without speed."""
    settings = evaluation.Settings(N_CTX, None, OPTIONS)
    rows: list[Row] = []
    stock = np.empty(0)
    for case in cases(only):
        out = case.convert(folder / "model.gguf", texts.matrix)
        tokens: list[Values] = []
        found = evaluation.evaluate(out, texts.judged, texts.f32, settings, tokens=tokens.append)
        assert found.comparison is not None
        kl = tokens[0][:, 2]
        tensors = gguf_file.read(out).tensors
        size = sum(tensor.n_bytes for tensor in tensors)
        weights = sum(math.prod(tensor.shape) for tensor in tensors)
        row: Row = {
            "quant": case.quant,
            "layout": case.layout,
            "imatrix": case.imatrix,
            "tensor_bytes": size,
            "bits_a_weight": 8 * size / weights,
            "judged_tokens": len(kl),
            "perplexity": [*found.perplexity.value],
            "kl": [*found.comparison.mean],
            "kl_p99": found.comparison.p99,
            "same_top": found.comparison.same_top.value,
            "decode_s": None,
        }
        if case.layout == "stock":
            stock = kl
        else:
            row["kl_less_stock"] = [*figures.estimate(kl - stock)]
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def measure_cache(texts: Texts) -> dict[str, Any]:
    """What smaller caches cost over the full context."""
    n_ctx = int(gguf_file.read(texts.f32).keys["plm.context_length"])
    words = texts.judged + texts.seen
    caches = long_context.measure(texts.f32, words, n_ctx, options=Options(threads=1))
    return {"n_ctx": n_ctx, "caches": {kv: dataclasses.asdict(one) for kv, one in caches.items()}}


def merged(before: list[Row], now: list[Row]) -> list[Row]:
    """The rows measured now, and those from before of all other types, in the recipes' order. The
    speed of a file that has as many bytes as before is kept."""
    new = {row["quant"] for row in now}
    timed = {_file(row): row["decode_s"] for row in before}
    for row in now:
        row["decode_s"] = timed.get(_file(row))
    rows = [row for row in before if row["quant"] not in new] + now
    return sorted(rows, key=lambda row: [*RECIPES].index(row["quant"]))


def _file(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("quant", "layout", "imatrix", "tensor_bytes"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=8, help="of 512 tokens that are judged")
    parser.add_argument("--no-speed", action="store_true", help="on a machine that is busy")
    parser.add_argument(
        "--speed", action="store_true", help="only that, of the rows that are there"
    )
    parser.add_argument("--only", help="these types; what else was measured stays")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/quality.json")
    given = parser.parse_args()
    only = given.only.split(",") if given.only else None
    result: dict[str, Any] = {}
    beforehand.out(given.out)
    if given.speed or only or (given.no_speed and given.out.exists()):
        # speeds are measured of all files at once: what else was measured may be of another engine
        result = beforehand.result(given.out, SCHEMA, any_engine=not only)
    with tempfile.TemporaryDirectory() as name:
        os.environ["PLM_EDGE_CACHE_DIR"] = name
        folder = Path(name)
        texts = Texts(folder, given.windows)
        if not given.speed:
            rows = measure(folder, texts, only)
            result = {
                "schema": SCHEMA,
                **origin.engine(),
                "python": sys.version.split()[0],
                "machine": machine.facts(1),
                "speed_machine": result.get("speed_machine"),
                "windows": given.windows,
                "rows": merged(result.get("rows", []), rows),
                "long_context": result["long_context"] if only else measure_cache(texts),
            }
        if given.speed or not (given.no_speed or only):
            measure_speed(folder, texts, result["rows"])
            result["speed_machine"] = machine.facts(1) | origin.engine()
    files.write_text(given.out.with_suffix(".svg"), plot(result))
    report.keep(given.out, result)


if __name__ == "__main__":
    with three_lines():
        main()
