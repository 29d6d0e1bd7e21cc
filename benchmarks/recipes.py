"""The search for the edge layout's mixtures of types: they and llama.cpp's on tiny-plm.

    python -m benchmarks.recipes [--windows 24] [--candidates 4] [--out FILE.json]

For each K-quant of `converters/plan/recipes.py`:

1. Which kind of matrix suffers how much: each alone in each type, all others in f32.
2. Among all assignments of a type to a kind that are smaller than llama.cpp's mixture (in PLM-1.8B,
   in the bytes that a token reads of it, and in tiny-plm), those whose sum of 1. is least are
   measured.
3. The best of these is chosen; `converters/plan/recipes.py` takes it where it beats llama.cpp's
   clearly (recipes_report.CLEARLY) on both halves of the text.

Quality is the KL divergence from the f32 model on text that tiny-plm was not trained on. All of the
above looks at one half of it only (every other file); the other half says whether the choice was
luck. Nothing is timed: a busy machine changes no figure. BENCHMARKS.md is written anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from benchmarks import beforehand, origin, report
from benchmarks.divergence import CHECKPOINT, WINDOW, Divergence, held_out_windows
from benchmarks.refusal import three_lines
from plm_edge.converters.convert import convert
from plm_edge.converters.plan.catalogue import PLM_1_8B
from plm_edge.converters.plan.config import PlmConfig, read_config
from plm_edge.converters.plan.plm import Kind, tensor_specs
from plm_edge.converters.plan.recipes import RECIPES, wanted_type
from testkit.checkout import ROOT

SCHEMA = "plm-edge/benchmark-recipes/1"
WINDOWS = 24
Q = GGMLQuantizationType
QUANTS = ("q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k")
TYPES = (Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.Q8_0)
KINDS: tuple[Kind, ...] = tuple(kind for kind in Kind if kind is not Kind.NORM)
# What of W_down a token reads in the edge layout: an assumption about PLM-1.8B, whose activations
# nobody could measure here.
ROWS_READ = 0.1
Mix = tuple[Q, ...]  # a type for each of KINDS
Sizes = dict[str, float]


def names(config: PlmConfig) -> dict[Kind, str]:
    """What a kind's tensors are called, without layer and suffix."""
    return {spec.kind: spec.name.split(".")[-2] for spec in tensor_specs(config)}


def elements(config: PlmConfig) -> dict[Kind, int]:
    """Weights of each kind."""
    found = dict.fromkeys(Kind, 0)
    for spec in tensor_specs(config):
        found[spec.kind] += int(np.prod(spec.shape))
    return found


def bytes_per_weight(type_: Q) -> float:
    block, size = GGML_QUANT_SIZES[type_]
    return size / block


def weigh(share: Callable[[Kind, PlmConfig], float], tiny: PlmConfig) -> Sizes:
    """Bytes of the matrices, by the three measures that a mixture must not exceed. `share`: bytes a
    weight, of a kind in a model."""
    big, small = elements(PLM_1_8B), elements(tiny)
    by_kind = {kind: big[kind] * share(kind, PLM_1_8B) for kind in KINDS}
    return {
        "plm_1_8b": sum(by_kind.values()),
        "decode": sum(by_kind.values()) - (1 - ROWS_READ) * by_kind[Kind.FFN_DOWN],
        "tiny_plm": sum(small[kind] * share(kind, tiny) for kind in KINDS),
    }


def upstream_sizes(quant: str, tiny: PlmConfig) -> Sizes:
    """Of llama.cpp's mixture, with an importance matrix or without: what is less."""

    def sizes(imatrix: bool) -> Sizes:
        def share(kind: Kind, config: PlmConfig) -> float:
            specs = [spec for spec in tensor_specs(config) if spec.kind is kind]
            types = [
                wanted_type(RECIPES[quant], spec, config.layers, "stock", imatrix) for spec in specs
            ]
            return float(np.mean([bytes_per_weight(type_) for type_ in types]))

        return weigh(share, tiny)

    plain, weighted = sizes(False), sizes(True)
    return {name: min(plain[name], weighted[name]) for name in plain}


def mix_sizes(mix: Mix, tiny: PlmConfig) -> Sizes:
    types: dict[Kind, Q] = dict(zip(KINDS, mix, strict=True))
    return weigh(lambda kind, _: bytes_per_weight(types[kind]), tiny)


def search(
    limits: Sizes, harm: Mapping[tuple[Kind, Q], float], tiny: PlmConfig, count: int
) -> list[Mix]:
    """The `count` mixtures within `limits` whose sum of `harm` is least, the least first."""
    grid = np.indices([len(TYPES)] * len(KINDS), dtype=np.int8).reshape(len(KINDS), -1)
    predicted = np.zeros(grid.shape[1])
    sizes = dict.fromkeys(limits, np.zeros(grid.shape[1]))
    for kind, chosen in zip(KINDS, grid, strict=True):
        predicted += np.array([harm[kind, type_] for type_ in TYPES])[chosen]
        # What the kind adds to each measure, type by type.
        added = [
            weigh(lambda k, _, t=type_, o=kind: bytes_per_weight(t) if k is o else 0.0, tiny)  # type: ignore[misc]
            for type_ in TYPES
        ]
        for name in limits:
            sizes[name] = sizes[name] + np.array([a[name] for a in added])[chosen]
    fits = np.all([sizes[name] < limit for name, limit in limits.items()], axis=0)
    best = np.flatnonzero(fits)[np.argsort(predicted[fits], kind="stable")][:count]
    return [tuple(TYPES[i] for i in grid[:, place]) for place in best]


class Bench:
    """Makes GGUFs of tiny-plm in `folder` and measures them."""

    def __init__(self, folder: Path, windows: int) -> None:
        self._folder, self.tiny = folder, read_config(CHECKPOINT)
        self._names = names(self.tiny)
        reference = folder / "f32.gguf"
        convert(CHECKPOINT, quant="f32", layout="stock", out=reference)
        self._divergence = Divergence(reference, held_out_windows(windows), threads=1)

    def upstream(self, quant: str) -> dict[str, Any]:
        """llama.cpp's mixture, as llama-quantize writes it; see `both`."""
        out = self._folder / "upstream.gguf"
        convert(CHECKPOINT, quant=quant, layout="stock", out=out)
        return self.both(out)

    def mixed(self, types: Mapping[Kind, Q]) -> Path:
        """A file of the edge layout with a type for each kind, f32 for those that have none."""
        recipe, out = self._folder / "mix.toml", self._folder / "mix.gguf"
        lines = [f"'\\b{self._names[k]}\\.' = \"{t.name.lower()}\"" for k, t in types.items()]
        recipe.write_text("\n".join(['base = "f32"', "[types]", *lines]))
        convert(CHECKPOINT, recipe=recipe, layout="edge", out=out)
        return out

    def first_half(self, path: Path) -> float:
        """KL divergence on the half of the text that chooses."""
        return float(self._divergence.of(path, step=2).mean())

    def both(self, path: Path) -> dict[str, Any]:
        """KL divergence on the half that chooses and on the half that confirms; the file's size."""
        found = self._divergence.of(path)
        return {
            "kl_chosen_on": float(found[0::2].mean()),
            "kl_confirmed_on": float(found[1::2].mean()),
            "file_bytes": path.stat().st_size,
        }


def measure(bench: Bench, candidates: int) -> dict[str, Any]:
    tiny = bench.tiny
    harm: dict[tuple[Kind, Q], float] = {}
    for kind in KINDS:
        for type_ in TYPES:
            harm[kind, type_] = round(bench.first_half(bench.mixed({kind: type_})), 6)
            print(kind.name, type_.name, harm[kind, type_], file=sys.stderr)
    quants: dict[str, Any] = {}
    for quant in QUANTS:
        limits = upstream_sizes(quant, tiny)
        found = []
        for mix in search(limits, harm, tiny, candidates):
            measured = bench.both(bench.mixed(dict(zip(KINDS, mix, strict=True))))
            types = [type_.name.lower() for type_ in mix]
            found.append({"types": types, "sizes": mix_sizes(mix, tiny), **measured})
        found.sort(key=lambda candidate: candidate["kl_chosen_on"])
        quants[quant] = {
            "upstream": {"sizes": limits, **bench.upstream(quant)},
            "candidates": found,
        }
        print(quant, json.dumps(quants[quant]), file=sys.stderr)
    return {
        "kinds": [kind.name.lower() for kind in KINDS],
        "harm": {
            kind.name.lower(): {type_.name.lower(): harm[kind, type_] for type_ in TYPES}
            for kind in KINDS
        },
        "quants": quants,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=WINDOWS, help="an even number")
    parser.add_argument("--candidates", type=int, default=4, help="measured of each recipe")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/recipes.json")
    given = parser.parse_args()
    beforehand.out(given.out)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Bench(Path(folder), given.windows), given.candidates)
    result = {
        "schema": SCHEMA,
        **origin.engine(),
        "python": sys.version.split()[0],
        "windows": given.windows,
        "window_tokens": WINDOW,
        "rows_read": ROWS_READ,
        **found,
    }
    report.keep(given.out, result)


if __name__ == "__main__":
    with three_lines():
        main()
