"""This module says whether the engine can load a GGUF without ending the process.

A file that is wrong should end in three lines. The engine says most of that itself, with an error;
what it asserts instead is checked here, from the header and the vocabulary alone. For PLM that is
all that a header can say; of other architectures only what they have in common is known here.
"""

from __future__ import annotations

import math
import re
from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import vocabulary
from plm_edge.model.description import ARCH
from plm_edge.model.gguf_file import COARSE, Array, GGUFFile, Tensor, shards

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
_EPSILONS = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
_MULTIPLIED = re.compile(
    r"(token_embd(\.tt|\.(r1|split)\.(low|high))?|output|output_norm|blk\.\d+\.(attn_\w+|ffn_(norm|up|down|gate)))\.weight$"
)
_NORM_TYPES = ("f32", "f16", "bf16")
_MATRIX_TYPES = (
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_K", "q3_K", "q4_K", "q5_K",
    "q6_K", "iq2_xxs", "iq2_xs", "iq3_xxs", "iq1_s", "iq4_nl", "iq3_s", "iq2_s", "iq4_xs", "iq1_m",
    "tq1_0", "tq2_0", "mxfp4", "nvfp4", "q1_0", "q2_0",
)  # fmt: skip


def check(model: GGUFFile, *, names: bool = True) -> None:
    """Refuse what would end the process that loads it, and what holds no weights.

    Args:
        names: look at each token's name, which our own engine does itself.

    Raises:
        PlmEdgeError: a key, a tensor's type or the vocabulary is one that the engine asserts
            against, or there is no tensor (code INPUT).
    """
    check_header(model, names=names)
    # The first part of a split model may have none; the others have them then.
    if not model.tensors and list(shards(model.path)) == [model.path]:
        raise PlmEdgeError(
            f"{model.path} cannot be loaded",
            "it holds keys and perhaps a vocabulary, and no weights",
            "get the file that has the weights",
        )


def check_header(model: GGUFFile, *, names: bool = True) -> None:
    """Refuse what would end the process that loads it.

    Args:
        names: as of `check`.

    Raises:
        PlmEdgeError: as of `check`, without regard to how many tensors there are.
    """
    _check_layers(model)
    _check_experts(model)
    _check_numbers(model)
    for tensor in model.tensors:
        _check_type(model, tensor)
    vocabulary.check(model, names=names)


def _check_layers(model: GGUFFile) -> None:
    layers = _whole(model, "block_count")
    if layers is not None and not 1 <= layers <= MAX_LAYERS:
        raise _refused(model, "block_count", layers, f"1 to {MAX_LAYERS} layers are possible")
    predicted = _whole(model, "nextn_predict_layers") or 0
    if layers is not None and predicted >= layers:
        raise _refused(model, "nextn_predict_layers", predicted, f"there are {layers} layers")


def _check_experts(model: GGUFFile) -> None:
    count = _whole(model, "expert_count") or 0
    used = model.arch_key("expert_used_count")
    most = max(used.values(MAX_LAYERS), default=0) if _numbers(used) else used
    most = most if type(most) is int else 0
    groups = _whole(model, "expert_group_count") or 0
    group_used = _whole(model, "expert_group_used_count") or 0
    if count > MAX_EXPERTS:
        raise _refused(model, "expert_count", count, f"at most {MAX_EXPERTS} are possible")
    if most > count or (count and most < 1):
        raise _refused(model, "expert_used_count", most, f"there are {count} experts")
    if groups and (groups >= count or count % groups):
        raise _refused(model, "expert_group_count", groups, f"there are {count} experts")
    if groups > 1 and not 0 < group_used < groups:
        raise _refused(model, "expert_group_used_count", group_used, f"there are {groups} groups")


def _check_numbers(model: GGUFFile) -> None:
    scaling = model.arch_key("rope.scaling.type")
    if isinstance(scaling, str) and scaling not in ROPE_SCALINGS:
        raise _refused(model, "rope.scaling.type", scaling, f"known are {', '.join(ROPE_SCALINGS)}")
    for name in _EPSILONS:
        epsilon = model.arch_key(name)
        if isinstance(epsilon, float) and not 0 <= epsilon < math.inf:
            raise _refused(model, name, epsilon, "no mean square can be divided by it")
    rope = _whole(model, "rope.dimension_count")
    if rope is not None and rope % 2:
        raise _refused(model, "rope.dimension_count", rope, "dimensions are turned in pairs")


def _check_type(model: GGUFFile, tensor: Tensor) -> None:
    # Other architectures have tables of whole numbers too; what is multiplied has these names.
    if model.architecture != ARCH and not _MULTIPLIED.match(tensor.name):
        return
    if tensor.name.startswith(COARSE):  # the engine's loader says what these may be
        return
    known = _NORM_TYPES if len(tensor.shape) == 1 else _MATRIX_TYPES
    if tensor.type not in known:
        raise PlmEdgeError(
            f"{model.path} cannot be loaded",
            f"tensor {tensor.name} is of type {tensor.type}, in which the engine cannot compute it",
            "get the file again, or convert the checkpoint again",
        )


def _whole(model: GGUFFile, name: str) -> int | None:
    value = model.arch_key(name)
    return value if type(value) is int else None


def _numbers(value: Any) -> bool:
    return isinstance(value, Array) and value.type in ("u32", "i32")


def _refused(model: GGUFFile, name: str, value: object, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{model.path} cannot be loaded",
        f"{model.architecture}.{name} is {value!r:.60}: {why}",
        "get the file again, or convert the checkpoint again",
    )
