"""What each type costs tiny-plm, by layout, with an importance matrix and without.

    python -m benchmarks.quality [--windows 24] [--no-speed] [--out FILE.json]

For each type that `convert` takes: bytes, bits a weight, perplexity, KL divergence from the f32
model, and decode speed, in llama.cpp's own layout and mixture (stock) and in ours (edge). Judged on
files of the standard library that tiny-plm was not trained on; the importance matrix is made from
others of these. Then what smaller types of the cache cost over its full context. BENCHMARKS.md is
written anew.
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
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.divergence import CHECKPOINT, held_out_windows
from benchmarks.quality_report import plot
from plm_edge.base import files
from plm_edge.converters.convert import convert
from plm_edge.converters.plan.recipes import RECIPES
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.model import gguf_file
from plm_edge.quality import evaluation, imatrix, long_context

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = "plm-edge/benchmark-quality/1"
LAYOUTS = ("stock", "edge")
N_CTX = 512
EXACT = ("f32", "f16", "bf16", "q8_0")  # which an importance matrix does not change


def detokenised(model: Path, windows: list[list[int]]) -> str:
    """The windows as one text."""
    with Session.open(model, Options(n_ctx=N_CTX, threads=1)) as session:
        pieces = [session.vocabulary.piece(token) for window in windows for token in window]
    return b"".join(pieces).decode("utf-8", "replace")


def decode_seconds(model: Path, tokens: int, threads: int) -> list[float]:
    """Seconds a token, of each of three runs, one token at a time from an empty context on."""
    options = Options(n_ctx=N_CTX, threads=threads, kv="f16")
    with Session.open(model, options) as session:
        found = []
        for _ in range(3):
            session.context.clear()
            session.context.append([1])
            started = time.perf_counter()
            for token in range(2, tokens + 2):
                session.context.append([token])
            found.append((time.perf_counter() - started) / tokens)
    return found


def measure(folder: Path, windows: int, speed: bool) -> dict[str, Any]:
    f32 = folder / "f32.gguf"
    convert(CHECKPOINT, quant="f32", layout="stock", out=f32)
    chosen = held_out_windows(2 * windows)
    judged, seen = detokenised(f32, chosen[0::2]), detokenised(f32, chosen[1::2])
    options = Options(kv="f32", threads=1)
    matrix = folder / "imatrix.gguf"
    imatrix.collect(f32, seen, N_CTX, None, options).write(matrix, "held-out files")
    settings = evaluation.Settings(N_CTX, None, options)
    rows = []
    for quant, recipe in RECIPES.items():
        for layout in LAYOUTS:
            for weighted in (False, True):
                if (recipe.needs_imatrix and not weighted) or (quant in EXACT and weighted):
                    continue
                out = folder / "model.gguf"
                given = matrix if weighted else None
                convert(CHECKPOINT, quant=quant, layout=layout, imatrix=given, out=out)
                found = evaluation.evaluate(out, judged, f32, settings)
                assert found.comparison is not None
                tensors = gguf_file.read(out).tensors
                size = sum(tensor.n_bytes for tensor in tensors)
                weights = sum(math.prod(tensor.shape) for tensor in tensors)
                row = {
                    "quant": quant,
                    "layout": layout,
                    "imatrix": weighted,
                    "tensor_bytes": size,
                    "bits_a_weight": 8 * size / weights,
                    "perplexity": [*found.perplexity.value],
                    "kl": [*found.comparison.mean],
                    "kl_p99": found.comparison.p99,
                    "same_top": found.comparison.same_top.value,
                    "decode_s": decode_seconds(out, 200, 1) if speed else None,
                }
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    n_ctx = int(gguf_file.read(f32).keys["plm.context_length"])
    caches = long_context.measure(f32, judged + seen, n_ctx, options=Options(threads=1))
    return {
        "judged_tokens": found.perplexity.tokens,
        "windows": windows,
        "rows": rows,
        "long_context": {
            "n_ctx": n_ctx,
            "caches": {kv: dataclasses.asdict(one) for kv, one in caches.items()},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=24, help="of 512 tokens that are judged")
    parser.add_argument("--no-speed", action="store_true", help="on a machine that is busy")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/quality.json")
    given = parser.parse_args()
    from plm_edge import __version__
    from plm_edge.engine.library import read_pin

    pin = read_pin()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PLM_EDGE_CACHE_DIR"] = folder
        found = measure(Path(folder), given.windows, not given.no_speed)
    result = {
        "schema": SCHEMA,
        "plm_edge": __version__,
        "pin": {"package": pin.package, "version": pin.version, "tree": pin.tree},
        "python": sys.version.split()[0],
        "machine": machine.facts(1),
        **found,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(given.out, json.dumps(result, indent=1) + "\n")
    files.write_text(given.out.with_suffix(".svg"), plot(result))
    report.write()


if __name__ == "__main__":
    main()
