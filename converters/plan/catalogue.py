"""The catalogue lists what --quant takes: each type, PLM-1.8B's size in it, and its use."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from plm_edge.converters.plan.config import PlmConfig
from plm_edge.converters.plan.layout import form
from plm_edge.converters.plan.plm import tensor_specs
from plm_edge.converters.plan.recipes import ALIASES, RECIPES, Recipe, fitting_type, wanted_type
from plm_edge.converters.tensors import columns
from plm_edge.converters.write.gguf_header import TensorInfo
from plm_edge.model.description import Layout

PLM_1_8B = PlmConfig(
    layers=32, hidden=2048, heads=16, nope=128, rope=64, v=128, kv_lora=512, ffn=8192,
    vocab=151_936, max_positions=4096, rope_theta=100_000.0, eps=1e-6, tied=True,
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One name that --quant takes, and what comes of it.

    Attributes:
        size: bytes of PLM-1.8B's weights; the vocabulary adds about 6 MB to each file.
        mix: whose mixture of types it is, plm-edge's or llama.cpp's.
    """

    name: str
    aliases: tuple[str, ...]
    bits_per_weight: float
    size: int
    needs_imatrix: bool
    mix: str
    advice: str

    def as_dict(self) -> dict[str, Any]:
        """Returns all fields, for --json."""
        return asdict(self)


def catalogue(layout: Layout = "edge") -> list[Entry]:
    """Lists what --quant takes in the order of `recipes.RECIPES`, the finest first."""
    return [_entry(name, recipe, layout) for name, recipe in RECIPES.items()]


def _entry(name: str, recipe: Recipe, layout: Layout) -> Entry:
    infos = []
    for spec in tensor_specs(PLM_1_8B):
        wanted = wanted_type(recipe, spec, PLM_1_8B.layers, layout, recipe.needs_imatrix)
        stored = form(spec, layout)
        type_ = fitting_type(wanted, columns(stored.shape), spec.kind)
        infos.append(TensorInfo(stored.name, stored.shape, type_))
    size = sum(info.size for info in infos)
    return Entry(
        name=name,
        aliases=tuple(alias for alias, target in ALIASES.items() if target == name),
        bits_per_weight=round(8 * size / sum(info.elements for info in infos), 2),
        size=size,
        needs_imatrix=recipe.needs_imatrix,
        mix="plm-edge" if layout == "edge" and recipe.edge else "llama.cpp",
        advice=recipe.advice,
    )
