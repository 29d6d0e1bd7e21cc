"""A recipe says which type each kind of tensor gets, in a table that a person can read.

A recipe has a type for every matrix, and exceptions for those that suffer most from few bits. They
are llama.cpp's mixtures (its src/llama-quant.cpp, as far as they concern PLM), so that a file in
the stock layout is the one that llama-quantize would write. Some of them differ when an importance
matrix says which weights matter.

In the edge layout most types below six bits have a mixture of ours instead, found by measuring
tiny-plm (benchmarks/recipes.py): closer to the f32 model than llama.cpp's, and no larger. All other
recipes are the same in both layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.plan.plm import Kind, TensorSpec
from plm_edge.model.description import Layout

Q = GGMLQuantizationType
F = LlamaFileType
LayerRule = Callable[[int, int], bool]
# The first rule that holds for a layer decides.
Rules = tuple[tuple[LayerRule, GGMLQuantizationType], ...]
Exceptions = dict[Kind, Rules]


def all_layers(layer: int, layers: int) -> bool:
    """Holds for every layer."""
    del layer, layers
    return True


def outer_and_every_third(layer: int, layers: int) -> bool:
    """Holds for the first and the last eighth, and every third layer between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def first_eighth(layer: int, layers: int) -> bool:
    """Holds for the first eighth of the layers."""
    return layer < layers // 8


def first_sixteenth(layer: int, layers: int) -> bool:
    """Holds for the first sixteenth of the layers."""
    return layer < layers // 16


def first_two(layer: int, layers: int) -> bool:
    """Holds for the first two layers."""
    del layers
    return layer < 2


def first_four(layer: int, layers: int) -> bool:
    """Holds for the first four layers."""
    del layers
    return layer < 4


@dataclass(frozen=True)
class Recipe:
    """Which type each kind of matrix gets.

    Attributes:
        base: the type of every matrix.
        exceptions: other types for a kind, in some layers.
        plain: further ones without an importance matrix.
        weighted: further ones with an importance matrix.
        file_type: goes into general.file_type, from which programs tell a file's quantisation.
        advice: when to pick it.
        needs_imatrix: it is refused without an importance matrix.
        edge: what a kind's matrices are in the edge layout, in all layers; empty where that has
            the same mixture.
        edge_file_type: goes into general.file_type where `file_type` would name a type that is not
            in the edge layout.
        calibrated: what a kind's matrices are in the edge layout of a calibrated file; empty where
            that has the same mixture.
    """

    file_type: LlamaFileType
    base: GGMLQuantizationType
    advice: str
    exceptions: Exceptions = field(default_factory=dict)
    plain: Exceptions = field(default_factory=dict)
    weighted: Exceptions = field(default_factory=dict)
    needs_imatrix: bool = False
    edge: dict[Kind, GGMLQuantizationType] = field(default_factory=dict)
    edge_file_type: LlamaFileType | None = None
    calibrated: dict[Kind, GGMLQuantizationType] = field(default_factory=dict)

    def file_type_in(self, layout: Layout) -> LlamaFileType:
        """Returns what general.file_type says of a file in `layout`."""
        return self.edge_file_type or self.file_type if layout == "edge" else self.file_type

    @property
    def quantised(self) -> bool:
        """Whether it is made by llama-quantize's way, from a 16-bit file; a float type comes
        straight from the checkpoint."""
        return self.base not in FLOATS


def always(type_: GGMLQuantizationType) -> Rules:
    """Returns the rule that gives a type to all layers."""
    return ((all_layers, type_),)


FLOATS = (Q.F32, Q.F16, Q.BF16)
# The embedding is the output matrix too, and takes a finer type than the rest in every mixture.
TIED_Q6: Exceptions = {Kind.EMBEDDING: always(Q.Q6_K)}
TIED_Q5: Exceptions = {Kind.EMBEDDING: always(Q.Q5_K)}
MORE_Q6: Exceptions = TIED_Q6 | {
    Kind.ATTN_KV_B: ((outer_and_every_third, Q.Q6_K),),
    Kind.FFN_DOWN: ((outer_and_every_third, Q.Q6_K),),
}
IQ2_MORE: Exceptions = TIED_Q5 | {
    Kind.ATTN_KV_B: always(Q.IQ3_S),
    Kind.FFN_DOWN: ((first_eighth, Q.IQ3_S),),
    Kind.ATTN_OUT: always(Q.IQ3_S),
}
IQ2_FEW: Exceptions = TIED_Q5 | {
    Kind.ATTN_KV_B: always(Q.Q2_K),
    Kind.FFN_DOWN: ((first_eighth, Q.Q2_K),),
}
EARLY_DOWN_Q5: Exceptions = {Kind.FFN_DOWN: ((first_eighth, Q.Q5_K),)}


def mixture(
    embedding: Q, attn_q: Q, kv_a: Q, kv_b: Q, attn_out: Q, ffn_up: Q, ffn_down: Q
) -> dict[Kind, GGMLQuantizationType]:
    """Returns a type for each kind of matrix, in all layers."""
    return {
        Kind.EMBEDDING: embedding,
        Kind.ATTN_Q: attn_q,
        Kind.ATTN_KV_A: kv_a,
        Kind.ATTN_KV_B: kv_b,
        Kind.ATTN_OUT: attn_out,
        Kind.FFN_UP: ffn_up,
        Kind.FFN_DOWN: ffn_down,
    }


# Of the edge layout, from benchmarks/results/recipes.json: embedding, q, kv_a, kv_b, out, up, down.
EDGE_Q5_K_M = mixture(Q.Q6_K, Q.Q5_K, Q.Q6_K, Q.Q5_K, Q.Q5_K, Q.Q5_K, Q.Q5_K)
EDGE_Q5_K_S = mixture(Q.Q5_K, Q.Q5_K, Q.Q6_K, Q.Q5_K, Q.Q6_K, Q.Q5_K, Q.Q5_K)
EDGE_Q4_K_M = mixture(Q.Q5_K, Q.Q4_K, Q.Q6_K, Q.Q5_K, Q.Q6_K, Q.Q4_K, Q.Q4_K)
EDGE_Q4_K_S = mixture(Q.Q5_K, Q.Q4_K, Q.Q5_K, Q.Q5_K, Q.Q5_K, Q.Q4_K, Q.Q4_K)
EDGE_Q3_K_L = mixture(Q.Q4_K, Q.Q3_K, Q.Q6_K, Q.Q5_K, Q.Q5_K, Q.Q4_K, Q.Q4_K)
EDGE_Q3_K_M = mixture(Q.Q4_K, Q.Q3_K, Q.Q4_K, Q.Q4_K, Q.Q4_K, Q.Q4_K, Q.Q4_K)
EDGE_Q3_K_S = mixture(Q.Q4_K, Q.Q3_K, Q.Q4_K, Q.Q4_K, Q.Q5_K, Q.Q3_K, Q.Q3_K)
EDGE_Q2_K = mixture(Q.Q4_K, Q.Q3_K, Q.Q3_K, Q.Q3_K, Q.Q3_K, Q.Q3_K, Q.Q3_K)

# Of the edge layout in calibrated files: with attention and the up projection rounded by a text, a
# token reads three quarters of attention's bytes, and the model is still closer to f32 than with
# the mixture above (docs/lab/calibration.md).
CALIBRATED_Q4_K_M = mixture(Q.Q5_K, Q.Q3_K, Q.Q5_K, Q.Q4_K, Q.Q4_K, Q.Q4_K, Q.Q4_K)

# Of other types, by the same table: the embedding takes one type less, and what that saves goes to
# the matrices that suffer most for a byte, attn_kv_a and attn_output. The MLP, half of the weights,
# keeps the type that the recipe is named for. (q5_0: q5_k is finer at the same size.) With
# llama.cpp's mixture these types lost to it by up to 9 %: docs/quality.md says why.
EDGE_Q5_0 = mixture(Q.Q6_K, Q.Q5_K, Q.Q5_K, Q.Q5_K, Q.Q5_K, Q.Q5_0, Q.Q5_0)
EDGE_Q4_0 = mixture(Q.Q5_K, Q.Q4_0, Q.Q5_K, Q.Q4_0, Q.Q5_K, Q.Q4_0, Q.Q4_0)
EDGE_IQ4_NL = mixture(Q.Q5_K, Q.IQ4_NL, Q.Q5_K, Q.IQ4_NL, Q.Q5_K, Q.IQ4_NL, Q.IQ4_NL)
EDGE_IQ4_XS = mixture(Q.Q5_K, Q.IQ4_XS, Q.Q5_K, Q.IQ4_XS, Q.Q5_K, Q.IQ4_XS, Q.IQ4_XS)
EDGE_IQ3_M = mixture(Q.Q5_K, Q.IQ3_S, Q.Q5_K, Q.Q4_K, Q.Q4_K, Q.IQ3_S, Q.IQ3_S)
EDGE_IQ3_S = mixture(Q.Q5_K, Q.IQ3_S, Q.Q4_K, Q.IQ3_S, Q.Q4_K, Q.IQ3_S, Q.IQ3_S)
EDGE_IQ3_XXS = mixture(Q.Q4_K, Q.IQ2_S, Q.Q4_K, Q.IQ3_XXS, Q.IQ4_XS, Q.IQ3_XXS, Q.IQ3_XXS)
EDGE_IQ2_M = mixture(Q.Q4_K, Q.IQ2_S, Q.Q4_K, Q.IQ3_S, Q.IQ3_S, Q.IQ2_S, Q.IQ2_S)
EDGE_IQ2_S = mixture(Q.Q4_K, Q.IQ2_XS, Q.Q4_K, Q.IQ3_S, Q.IQ3_S, Q.IQ2_XS, Q.IQ2_XS)
EDGE_IQ2_XS = mixture(Q.Q4_K, Q.IQ2_XS, Q.IQ3_S, Q.Q2_K, Q.IQ3_S, Q.IQ2_XS, Q.IQ2_XS)
EDGE_IQ2_XXS = mixture(Q.Q4_K, Q.IQ2_XXS, Q.IQ3_S, Q.Q2_K, Q.IQ3_XXS, Q.IQ2_XXS, Q.IQ2_XXS)

# From the finest to the coarsest: --list-quants shows them in this order.
RECIPES: dict[str, Recipe] = {
    "f32": Recipe(F.ALL_F32, Q.F32, "to measure against; nothing is lost"),
    "f16": Recipe(F.MOSTLY_F16, Q.F16, "as good as the original, where f16 is the fast type"),
    "bf16": Recipe(F.MOSTLY_BF16, Q.BF16, "the original's type; to keep, to quantise later"),
    "q8_0": Recipe(F.MOSTLY_Q8_0, Q.Q8_0, "no loss that anybody could notice"),
    "q6_k": Recipe(F.MOSTLY_Q6_K, Q.Q6_K, "hardly any loss, three quarters of q8_0's size"),
    "q5_k_m": Recipe(F.MOSTLY_Q5_K_M, Q.Q5_K, "small loss; where memory allows it",
                     MORE_Q6, edge=EDGE_Q5_K_M),
    "q5_k_s": Recipe(F.MOSTLY_Q5_K_S, Q.Q5_K, "a little smaller than q5_k_m", TIED_Q6,
                     edge=EDGE_Q5_K_S),
    "q5_0": Recipe(F.MOSTLY_Q5_0, Q.Q5_0, "older than q5_k; for programs that lack K-quants",
                   TIED_Q6, weighted={Kind.FFN_DOWN: ((first_eighth, Q.Q5_1),)}, edge=EDGE_Q5_0),
    "q4_k_m": Recipe(F.MOSTLY_Q4_K_M, Q.Q4_K, "the usual choice, a balance of all",
                     MORE_Q6, edge=EDGE_Q4_K_M, calibrated=CALIBRATED_Q4_K_M),
    "q4_k_s": Recipe(F.MOSTLY_Q4_K_S, Q.Q4_K, "a little smaller and faster than q4_k_m",
                     TIED_Q6 | {
                         Kind.ATTN_KV_B: ((first_four, Q.Q5_K),),
                         Kind.FFN_DOWN: ((first_eighth, Q.Q5_K),),
                     }, edge=EDGE_Q4_K_S),
    "q4_0": Recipe(F.MOSTLY_Q4_0, Q.Q4_0, "fast on ARM, coarser than q4_k_s",
                   TIED_Q6, weighted={Kind.FFN_DOWN: ((first_eighth, Q.Q4_1),)}, edge=EDGE_Q4_0),
    "iq4_nl": Recipe(F.MOSTLY_IQ4_NL, Q.IQ4_NL, "q4_0's size, finer; slower on some CPUs",
                     TIED_Q6, plain=EARLY_DOWN_Q5, edge=EDGE_IQ4_NL),
    "iq4_xs": Recipe(F.MOSTLY_IQ4_XS, Q.IQ4_XS, "smallest of four bits; slower than q4_k_s",
                     TIED_Q6, plain=EARLY_DOWN_Q5, edge=EDGE_IQ4_XS),
    "q3_k_l": Recipe(F.MOSTLY_Q3_K_L, Q.Q3_K, "iq4_xs is smaller and finer; where that is slow",
                     TIED_Q6 | {
                         Kind.ATTN_KV_B: always(Q.Q5_K),
                         Kind.FFN_DOWN: always(Q.Q5_K),
                         Kind.ATTN_OUT: always(Q.Q5_K),
                     }, edge=EDGE_Q3_K_L, edge_file_type=F.MOSTLY_Q4_K_S),
    "q3_k_m": Recipe(F.MOSTLY_Q3_K_M, Q.Q3_K, "clearly coarser than four bits; for small memories",
                     TIED_Q6 | {
                         Kind.ATTN_KV_B: ((first_two, Q.Q5_K), (all_layers, Q.Q4_K)),
                         Kind.FFN_DOWN: ((first_sixteenth, Q.Q5_K), (all_layers, Q.Q4_K)),
                         Kind.ATTN_OUT: always(Q.Q4_K),
                     }, edge=EDGE_Q3_K_M, edge_file_type=F.MOSTLY_Q4_K_S),
    "q3_k_s": Recipe(F.MOSTLY_Q3_K_S, Q.Q3_K, "three bits throughout: a large loss", TIED_Q6,
                     edge=EDGE_Q3_K_S),
    "q2_k": Recipe(F.MOSTLY_Q2_K, Q.Q2_K, "smallest without an imatrix; a very large loss",
                   TIED_Q6 | {
                       Kind.ATTN_KV_B: always(Q.Q3_K),
                       Kind.FFN_DOWN: always(Q.Q3_K),
                       Kind.ATTN_OUT: always(Q.Q3_K),
                   }, edge=EDGE_Q2_K, edge_file_type=F.MOSTLY_Q3_K_S),
    "iq3_m": Recipe(F.MOSTLY_IQ3_M, Q.IQ3_S, "finer than q3_k_m at its size; slower on CPUs",
                    TIED_Q6 | {
                        Kind.ATTN_KV_B: always(Q.Q4_K),
                        Kind.FFN_DOWN: ((first_eighth, Q.Q4_K),),
                        Kind.ATTN_OUT: always(Q.Q4_K),
                    }, needs_imatrix=True, edge=EDGE_IQ3_M),
    "iq3_s": Recipe(F.MOSTLY_IQ3_S, Q.IQ3_S, "finer than q3_k_s at its size; slower on CPUs",
                    TIED_Q6, needs_imatrix=True, edge=EDGE_IQ3_S),
    "iq3_xxs": Recipe(F.MOSTLY_IQ3_XXS, Q.IQ3_XXS, "three bits, tightly packed; slower on CPUs",
                      TIED_Q5 | {
                          Kind.ATTN_Q: always(Q.IQ2_S),
                          Kind.ATTN_OUT: always(Q.IQ3_S),
                      }, needs_imatrix=True, edge=EDGE_IQ3_XXS),
    "iq2_m": Recipe(F.MOSTLY_IQ2_M, Q.IQ2_S, "the best below three bits; expect mistakes",
                    IQ2_MORE, needs_imatrix=True, edge=EDGE_IQ2_M),
    "iq2_s": Recipe(F.MOSTLY_IQ2_S, Q.IQ2_XS, "two and a half bits; expect mistakes",
                    IQ2_MORE, needs_imatrix=True, edge=EDGE_IQ2_S),
    "iq2_xs": Recipe(F.MOSTLY_IQ2_XS, Q.IQ2_XS, "for experiments: little is left of a small model",
                     IQ2_FEW, needs_imatrix=True, edge=EDGE_IQ2_XS),
    "iq2_xxs": Recipe(F.MOSTLY_IQ2_XXS, Q.IQ2_XXS,
                      "for experiments: little is left of a small model",
                      IQ2_FEW, needs_imatrix=True, edge=EDGE_IQ2_XXS),
    "iq1_m": Recipe(F.MOSTLY_IQ1_M, Q.IQ1_M, "for experiments: hardly speaks any more",
                    IQ2_FEW | {Kind.ATTN_OUT: always(Q.IQ2_XXS)}, needs_imatrix=True),
}  # fmt: skip
ALIASES = {"q5_k": "q5_k_m", "q4_k": "q4_k_m", "q3_k": "q3_k_m"}

# What a row whose length is no multiple of the type's block gets instead.
FALLBACKS = {
    **dict.fromkeys(
        (Q.IQ4_XS, Q.IQ3_S, Q.IQ3_XXS, Q.IQ2_S, Q.IQ2_XS, Q.IQ2_XXS, Q.IQ1_M), Q.IQ4_NL
    ),
    **{Q.Q2_K: Q.Q4_0, Q.Q3_K: Q.Q4_0, Q.Q4_K: Q.Q5_0, Q.Q5_K: Q.Q5_1, Q.Q6_K: Q.Q8_0},
}
# Types that come out as garbage (or, in ggml, not at all) where nothing tells the weights apart.
NEED_WEIGHTS = frozenset({Q.IQ3_XXS, Q.IQ2_S, Q.IQ2_XS, Q.IQ2_XXS, Q.IQ1_M})


# Relative error (root of the mean square) of normally distributed weights, measured with ggml.
ERRORS = {
    **{Q.F32: 0.0, Q.F16: 2e-4, Q.BF16: 1.7e-3, Q.Q8_0: 0.0054, Q.Q6_K: 0.018},
    **{Q.Q5_K: 0.036, Q.Q5_0: 0.043, Q.Q5_1: 0.038, Q.Q4_K: 0.072, Q.Q4_0: 0.086, Q.Q4_1: 0.078},
    **{Q.IQ4_NL: 0.077, Q.IQ4_XS: 0.077, Q.Q3_K: 0.15, Q.IQ3_S: 0.17, Q.IQ3_XXS: 0.18},
    **{Q.Q2_K: 0.3, Q.IQ2_S: 0.25, Q.IQ2_XS: 0.3, Q.IQ2_XXS: 0.35, Q.IQ1_M: 0.45},
}


def typical_error(type_: GGMLQuantizationType) -> float:
    """Says how far a weight is off, as a share of what weights are: an orientation, of normally
    distributed ones."""
    return ERRORS.get(type_, 0.5)


def find_recipe(name: str) -> tuple[str, Recipe]:
    """Returns the recipe's own name (aliases and case resolved) and the recipe.

    Raises:
        PlmEdgeError: there is none of this name.
    """
    key = ALIASES.get(name.lower(), name.lower())
    if key not in RECIPES:
        raise PlmEdgeError(
            f"there is no type {name!r}",
            f"the types are {', '.join((*RECIPES, *ALIASES))}",
            "take q4_k for a small file, q8_0 for one close to the original; "
            "plm-edge convert --list-quants tells more",
            ExitCode.USAGE,
        )
    return key, RECIPES[key]


def wanted_type(
    recipe: Recipe,
    spec: TensorSpec,
    layers: int,
    layout: Layout,
    imatrix: bool = False,
    *,
    calibrated: bool = False,
) -> GGMLQuantizationType:
    """Returns the type that one tensor should have; norms are f32 always.

    Args:
        layers: of the model.
        imatrix: an importance matrix is at hand.
        calibrated: the file is calibrated.
    """
    if spec.kind is Kind.NORM:
        return Q.F32
    if not recipe.quantised:
        return recipe.base
    if layout == "edge" and calibrated and recipe.calibrated:
        return recipe.calibrated[spec.kind]
    if layout == "edge" and recipe.edge:
        return recipe.edge[spec.kind]
    further = recipe.weighted if imatrix else recipe.plain
    for rule, type_ in (*recipe.exceptions.get(spec.kind, ()), *further.get(spec.kind, ())):
        if rule(spec.layer, layers):
            return type_
    return recipe.base


def fitting_type(
    wanted: GGMLQuantizationType, columns: int, kind: Kind | None = None
) -> GGMLQuantizationType:
    """Returns `wanted`, or what takes its place where rows are no whole blocks of it.

    Args:
        columns: values in a row.
        kind: of the tensor, where the mixture and not the person chose the type.
    """
    fallback = Q.Q8_0 if kind is Kind.EMBEDDING else FALLBACKS.get(wanted, wanted)
    for candidate in (wanted, fallback):
        if columns % GGML_QUANT_SIZES[candidate][0] == 0:
            return candidate
    return Q.F16
