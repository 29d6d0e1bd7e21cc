"""Which type each tensor gets, as a table that a person can read.

A recipe has a type for every matrix, and exceptions for those that suffer most from few bits. They
are llama.cpp's mixtures (its src/llama-quant.cpp, as far as they concern PLM), so that a file in
the stock layout is the one that llama-quantize would write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from converters.plm import Kind, TensorSpec
from plm_edge.errors import ExitCode, PlmEdgeError

Q = GGMLQuantizationType
F = LlamaFileType
LayerRule = Callable[[int, int], bool]


def all_layers(layer: int, layers: int) -> bool:
    del layer, layers
    return True


def outer_and_every_third(layer: int, layers: int) -> bool:
    """The first and the last eighth, and every third layer between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def first_eighth(layer: int, layers: int) -> bool:
    return layer < layers // 8


def first_four(layer: int, layers: int) -> bool:
    del layers
    return layer < 4


@dataclass(frozen=True)
class Recipe:
    """`base` is the type of every matrix; `exceptions` raise it for a kind, in some layers.

    `file_type` goes into general.file_type, from which programs tell a file's quantisation.
    `quantised`: whether it is made by llama-quantize's way, from a 16-bit file; a float type comes
    straight from the checkpoint.
    """

    file_type: LlamaFileType
    base: GGMLQuantizationType
    exceptions: Mapping[Kind, tuple[LayerRule, GGMLQuantizationType]] = field(default_factory=dict)

    @property
    def quantised(self) -> bool:
        return self.base not in FLOATS


FLOATS = (Q.F32, Q.F16, Q.BF16)
# The embedding is the output matrix too, and takes q6_k in every mixture of less.
TIED = {Kind.EMBEDDING: (all_layers, Q.Q6_K)}

RECIPES: dict[str, Recipe] = {
    "f32": Recipe(F.ALL_F32, Q.F32),
    "f16": Recipe(F.MOSTLY_F16, Q.F16),
    "bf16": Recipe(F.MOSTLY_BF16, Q.BF16),
    "q8_0": Recipe(F.MOSTLY_Q8_0, Q.Q8_0),
    "q6_k": Recipe(F.MOSTLY_Q6_K, Q.Q6_K),
    "q5_k_m": Recipe(
        F.MOSTLY_Q5_K_M,
        Q.Q5_K,
        TIED
        | {
            Kind.ATTN_KV_B: (outer_and_every_third, Q.Q6_K),
            Kind.FFN_DOWN: (outer_and_every_third, Q.Q6_K),
        },
    ),
    "q5_k_s": Recipe(F.MOSTLY_Q5_K_S, Q.Q5_K, TIED),
    "q4_k_m": Recipe(
        F.MOSTLY_Q4_K_M,
        Q.Q4_K,
        TIED
        | {
            Kind.ATTN_KV_B: (outer_and_every_third, Q.Q6_K),
            Kind.FFN_DOWN: (outer_and_every_third, Q.Q6_K),
        },
    ),
    "q4_k_s": Recipe(
        F.MOSTLY_Q4_K_S,
        Q.Q4_K,
        TIED
        | {
            Kind.ATTN_KV_B: (first_four, Q.Q5_K),
            Kind.FFN_DOWN: (first_eighth, Q.Q5_K),
        },
    ),
    "q4_0": Recipe(F.MOSTLY_Q4_0, Q.Q4_0, TIED),
}
ALIASES = {"q4_k": "q4_k_m", "q5_k": "q5_k_m"}

# What a row whose length is no multiple of the type's block gets instead.
FALLBACKS = {Q.Q4_K: Q.Q5_0, Q.Q5_K: Q.Q5_1, Q.Q6_K: Q.Q8_0}


def find_recipe(name: str) -> tuple[str, Recipe]:
    """The recipe's own name (aliases and case resolved) and the recipe.

    Raises:
        PlmEdgeError: there is none of this name.
    """
    key = ALIASES.get(name.lower(), name.lower())
    if key not in RECIPES:
        raise PlmEdgeError(
            f"there is no type {name!r}",
            f"the types are {', '.join((*RECIPES, *ALIASES))}",
            "take q4_k for a small file, q8_0 for one close to the original",
            ExitCode.USAGE,
        )
    return key, RECIPES[key]


def wanted_type(recipe: Recipe, spec: TensorSpec, layers: int) -> GGMLQuantizationType:
    """The type of one tensor of a model with `layers` layers. Norms are f32 always."""
    if spec.kind is Kind.NORM:
        return Q.F32
    if not recipe.quantised:
        return recipe.base
    rule, better = recipe.exceptions.get(spec.kind, (all_layers, recipe.base))
    return better if rule(spec.layer, layers) else recipe.base


def fitting_type(wanted: GGMLQuantizationType, columns: int) -> GGMLQuantizationType:
    """`wanted`, or what takes its place for rows of `columns` values that it does not fit."""
    for candidate in (wanted, FALLBACKS.get(wanted, wanted)):
        if columns % GGML_QUANT_SIZES[candidate][0] == 0:
            return candidate
    return Q.F16
