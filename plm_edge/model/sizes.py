"""Sizes are the numbers of a model that the memory it needs follows from.

They are read from a GGUF's header, and go with a model to where its header is not at hand: into the
manifest of a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import ggml_types, gguf_file
from plm_edge.model.description import ARCH, describe
from plm_edge.model.gguf_file import GGUFFile

LOW_SHARE = 4 / 9
"""Of the bytes of q4_K in planes, how many are lower bits (vendor/…/plm-planes/plm-planes.h)."""

LARGEST_COUNT = 1 << 17  # layers, heads, sizes: beyond this a file is damaged or means harm


@dataclass(frozen=True)
class KVShape:
    """Values that one token puts in the cache.

    Attributes:
        latent: the model keeps a shared latent (MLA) and no separate values.
        rows: lengths of the rows that are cached for a token in each layer.
        expanded: values a token in all layers, were every head's K and V cached instead.
        n_layers: number of layers.
    """

    latent: bool
    rows: tuple[int, ...]
    expanded: int
    n_layers: int

    def bytes_per_token(self, kv_type: str) -> int:
        """Returns how many bytes a token takes in all layers.

        Raises:
            PlmEdgeError: a row is not whole blocks of this type (code INPUT).
        """
        block, _ = ggml_types.TYPE_SIZES[kv_type]
        for row in self.rows:
            if row % block:
                raise PlmEdgeError(
                    f"this model's KV cache cannot be {kv_type}",
                    f"a token's row of {row} values is not whole blocks of {block}",
                    "use --kv f16",
                )
        return self.n_layers * sum(ggml_types.type_bytes(kv_type, row) for row in self.rows)

    def expanded_bytes_per_token(self, kv_type: str) -> int:
        """Returns what a token would cost with every head's own K and V in the cache (rounded
        up)."""
        block, size = ggml_types.TYPE_SIZES[kv_type]
        return -(-self.expanded // block) * size


@dataclass(frozen=True)
class Sizes:
    """What a model's need of memory follows from.

    Attributes:
        name: of the file.
        weights: bytes of all tensors, those of the parts of a split file together.
        n_ctx_train: tokens that the model was trained for; None where the header does not say.
        kv: what a token puts in the cache; None for a family whose keys do not say it.
        n_embd: length of the hidden state, in values; 0 where the header does not say.
        n_ff: neurons of an FFN.
        heads: the most heads of attention that a layer has.
        vocabulary: tokens that there are.
    """

    name: str
    weights: int
    n_ctx_train: int | None
    kv: KVShape | None
    n_embd: int
    n_ff: int
    heads: int
    vocabulary: int

    def cache_can_be(self, kv_type: str) -> bool:
        """Whether a token's rows are whole blocks of this type."""
        block = ggml_types.TYPE_SIZES[kv_type][0]
        return not self.kv or not any(row % block for row in self.kv.rows)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sizes:
        """Returns the sizes that `dataclasses.asdict` made plain data of.

        Raises:
            TypeError: a field is missing, or there is another one.
        """
        kv = data["kv"]
        shape = KVShape(**(kv | {"rows": tuple(kv["rows"])})) if kv else None
        return cls(**(data | {"kv": shape}))


def of(model: GGUFFile | Sizes, weights: int | None = None) -> Sizes:
    """Returns a model's sizes; sizes as they are.

    Args:
        model: a header, or sizes.
        weights: bytes of all tensors; counted from the header and those of its parts when None.

    Raises:
        PlmEdgeError: a part of a split file is missing or damaged.
    """
    if isinstance(model, Sizes):
        return model
    if weights is None:
        weights = model.tensor_bytes
        for path in gguf_file.shards(model.path):
            if path != model.path:
                weights += gguf_file.read(path).tensor_bytes
    n_embd = _count(model, "embedding_length") or 0
    heads = _per_layer(model, "attention.head_count", _count(model, "block_count"))
    tokens = model.keys.get("tokenizer.ggml.tokens")
    return Sizes(
        name=model.path.name,
        weights=weights,
        n_ctx_train=describe(model).context_length,
        kv=kv_shape(model),
        n_embd=n_embd,
        n_ff=_count(model, "feed_forward_length") or 4 * n_embd,
        heads=max(heads, default=0),
        vocabulary=tokens.length if isinstance(tokens, gguf_file.Array) else 0,
    )


def kv_shape(model: GGUFFile) -> KVShape | None:
    """Returns the cache's shape from the GGUF's keys, or None when they do not say (another
    family)."""
    n_layers = _count(model, "block_count")
    heads = _per_layer(model, "attention.head_count", n_layers)
    if not n_layers or not any(heads):
        return None
    kv_heads = _per_layer(model, "attention.head_count_kv", n_layers) or heads
    head_size = (_count(model, "embedding_length") or 0) // max(heads)
    key = _count(model, "attention.key_length") or head_size
    value = _count(model, "attention.value_length") or head_size
    lora = _count(model, "attention.kv_lora_rank")
    rope = _count(model, "rope.dimension_count")
    # deepseek2 keeps the per-head sizes under *_mla and the latent's under key_length.
    key_mla = _count(model, "attention.key_length_mla")
    value_mla = _count(model, "attention.value_length_mla")
    if lora and rope and (model.architecture == ARCH or key_mla):
        expanded = sum(heads) * ((key_mla or key) + (value_mla or value))
        return KVShape(True, (lora + rope,), expanded, n_layers)
    expanded = sum(kv_heads) * (key + value)
    mean = sum(kv_heads) // n_layers  # equal in all layers but for a few families
    return KVShape(False, (mean * key, mean * value), expanded, n_layers)


def share_of_keys(model: GGUFFile) -> float:
    """Returns the share of attn_kv_b's rows that make keys; the others make values.

    It is (key_length - rope.dimension_count) of that plus value_length: the rotated part of a key
    is no product of this matrix. One half where the keys do not say.
    """
    key, value, rotated = (
        _count(model, name)
        for name in ("attention.key_length", "attention.value_length", "rope.dimension_count")
    )
    if key is None or value is None or rotated is None or key < rotated:
        return 0.5
    return (key - rotated) / (key - rotated + value)


def _count(model: GGUFFile, name: str) -> int | None:
    value = model.arch_key(name)
    return value if isinstance(value, int) and 0 < value < LARGEST_COUNT else None


def _per_layer(model: GGUFFile, name: str, n_layers: int | None) -> list[int]:
    """A key that is one number for all layers, or an array with one a layer."""
    value = model.arch_key(name)
    values = value.values(n_layers) if isinstance(value, gguf_file.Array) else [value]
    if not n_layers or not all(isinstance(v, int) and 0 <= v < LARGEST_COUNT for v in values):
        return []
    return values * n_layers if len(values) == 1 else values
