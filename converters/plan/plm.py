"""This module maps PLM's tensors: each one's name in a checkpoint and in a GGUF, and its shape.

The map is exhaustive both ways: a tensor of the checkpoint that it does not know is an error, and
so is one that it knows and the checkpoint lacks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from gguf import GGML_QUANT_SIZES

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.keys import Keys, f32, u32
from plm_edge.converters.plan.config import PlmConfig
from plm_edge.converters.tensors import Bytes, Tensor, rows

LM_HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
# Buffers that old versions of transformers saved along with the weights.
_IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


class Kind(Enum):
    """What a tensor does, which decides how finely it is quantised."""

    EMBEDDING = auto()  # also the output: PLM ties the two
    NORM = auto()
    ATTN_Q = auto()
    ATTN_KV_A = auto()  # hidden -> latent and rotated key
    ATTN_KV_B = auto()  # latent -> per-head keys and values
    ATTN_OUT = auto()
    FFN_UP = auto()
    FFN_DOWN = auto()


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a PLM. `shape` is (rows, columns), or (columns,); `layer` is -1 outside them.

    `source` is its name in the checkpoint, `name` its name in a GGUF.
    """

    source: str
    name: str
    shape: tuple[int, ...]
    kind: Kind
    layer: int


def tensor_specs(c: PlmConfig) -> list[TensorSpec]:
    """Returns all tensors, in the order in which llama.cpp's tools write them: by layer, then by
    name."""
    specs = [
        TensorSpec("model.norm.weight", "output_norm.weight", (c.hidden,), Kind.NORM, -1),
        TensorSpec(EMBEDDING, "token_embd.weight", (c.vocab, c.hidden), Kind.EMBEDDING, -1),
    ]
    # Names in a layer without "model.layers.N.", "blk.N." and ".weight".
    in_layer = (
        ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", (c.kv_lora + c.rope, c.hidden),
         Kind.ATTN_KV_A),
        ("self_attn.kv_a_layernorm", "attn_kv_a_norm", (c.kv_lora,), Kind.NORM),
        ("self_attn.kv_b_proj", "attn_kv_b", (c.heads * (c.nope + c.v), c.kv_lora),
         Kind.ATTN_KV_B),
        ("input_layernorm", "attn_norm", (c.hidden,), Kind.NORM),
        ("self_attn.o_proj", "attn_output", (c.hidden, c.heads * c.v), Kind.ATTN_OUT),
        ("self_attn.q_proj", "attn_q", (c.heads * c.key, c.hidden), Kind.ATTN_Q),
        ("mlp.down_proj", "ffn_down", (c.hidden, c.ffn), Kind.FFN_DOWN),
        ("post_attention_layernorm", "ffn_norm", (c.hidden,), Kind.NORM),
        ("mlp.up_proj", "ffn_up", (c.ffn, c.hidden), Kind.FFN_UP),
    )  # fmt: skip
    for i in range(c.layers):
        for source, name, shape, kind in in_layer:
            specs.append(
                TensorSpec(
                    f"model.layers.{i}.{source}.weight", f"blk.{i}.{name}.weight", shape, kind, i
                )
            )
    return specs


def model_keys(c: PlmConfig) -> Keys:
    """Returns the GGUF keys that describe the model's sizes."""
    return {
        "plm.block_count": u32(c.layers),
        "plm.context_length": u32(c.max_positions),
        "plm.embedding_length": u32(c.hidden),
        "plm.feed_forward_length": u32(c.ffn),
        "plm.attention.head_count": u32(c.heads),
        "plm.attention.head_count_kv": u32(c.heads),
        "plm.rope.freq_base": f32(c.rope_theta),
        "plm.attention.layer_norm_rms_epsilon": f32(c.eps),
        "plm.vocab_size": u32(c.vocab),
        "plm.attention.kv_lora_rank": u32(c.kv_lora),
        "plm.attention.key_length": u32(c.key),
        "plm.attention.value_length": u32(c.v),
        "plm.rope.dimension_count": u32(c.rope),
    }


def match_tensors(
    config: PlmConfig, tensors: Mapping[str, Tensor]
) -> list[tuple[TensorSpec, Tensor]]:
    """Pair each tensor of a PLM with the checkpoint's.

    Raises:
        PlmEdgeError: a tensor is missing, unknown, or has another shape or type than it should,
            or the checkpoint has an output matrix of its own.
    """
    specs = tensor_specs(config)
    _check_names({spec.source for spec in specs}, tensors)
    for spec in specs:
        tensor = tensors[spec.source]
        if tensor.shape != spec.shape:
            raise PlmEdgeError(
                f"{spec.source} has the shape {list(tensor.shape)}",
                f"config.json makes it {list(spec.shape)}",
                "check that config.json and the weights are of the same checkpoint",
            )
        _ = tensor.type  # raises for a type that weights cannot have
    _check_output(config, tensors)
    return [(spec, tensors[spec.source]) for spec in specs]


def _check_names(expected: set[str], tensors: Mapping[str, Tensor]) -> None:
    missing = [name for name in sorted(expected) if name not in tensors]
    if missing:
        raise PlmEdgeError(
            f"the checkpoint has no {_list(missing)}",
            f"config.json asks for {len(expected)} tensors, {len(missing)} of them are not there",
            "download the checkpoint again, or check num_hidden_layers in config.json",
        )
    extra = [
        name
        for name in sorted(tensors)
        if name not in expected and name != LM_HEAD and not _IGNORED.fullmatch(name)
    ]
    if extra:
        raise PlmEdgeError(
            f"the checkpoint has {_list(extra)}, which PLM does not have",
            f"config.json asks for {len(expected)} tensors, {len(extra)} more are there",
            "check num_hidden_layers in config.json, and that this is a PLM without adapters",
        )


def _list(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _check_output(config: PlmConfig, tensors: Mapping[str, Tensor]) -> None:
    """PLM has one matrix for input and output; a copy may be stored, but it must be a copy."""
    if LM_HEAD not in tensors:
        if not config.tied:
            raise PlmEdgeError(
                f"the checkpoint has no {LM_HEAD}",
                "config.json says tie_word_embeddings false, so it should have one",
                "check tie_word_embeddings: PLM ties the output to the embedding",
            )
        return
    if not _equal(tensors[EMBEDDING], tensors[LM_HEAD]):
        raise PlmEdgeError(
            f"{LM_HEAD} differs from {EMBEDDING}",
            "PLM has one matrix for both, and a GGUF of it has room for one",
            "check that the checkpoint is a PLM; a model with untied output cannot be converted",
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.type != b.type:
        return False
    for (first, left), (_, right) in zip(_blocks(a), _blocks(b), strict=True):
        a.read_rows(first, left)
        b.read_rows(first, right)
        if not np.array_equal(left, right):
            return False
    return True


def _blocks(tensor: Tensor, size: int = 1 << 22) -> Iterator[tuple[int, Bytes]]:
    """(first row, buffer) for each block of about `size` bytes; the buffer is used again."""
    row = tensor.shape[-1] * GGML_QUANT_SIZES[tensor.type][1]
    step = max(1, size // row)
    buffer = np.empty(step * row, np.uint8)
    for first in range(0, rows(tensor.shape), step):
        yield first, buffer[: min(step, rows(tensor.shape) - first) * row]
