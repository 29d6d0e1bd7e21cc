"""This module says what a model will need before it is loaded, and whether the machine has it.

Weights and KV cache are counted exactly from the GGUF's header; the compute buffers are an
estimate and called one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.machine import memory
from plm_edge.machine.memory import Room
from plm_edge.model import ggml_types, gguf_file
from plm_edge.model.description import ARCH
from plm_edge.model.gguf_file import GGUFFile

KV_TYPES = ("f16", "q8_0", "q4_0")
F16 = 2  # bytes
F32 = 4
MIB = 1 << 20
LARGEST_COUNT = 1 << 17  # layers, heads, sizes: beyond this a file is damaged or means harm
# Interpreter, bindings, tokenizer: what `plm-edge run` takes beyond the model's own buffers.
# Measured about 50 MiB with PLM-1.8B's vocabulary; the rest is slack.
PROCESS_BYTES = 80 * MIB


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
class Need:
    """Bytes that a model will take.

    Attributes:
        weights: counted.
        kv: of the cache, counted.
        compute: of the compute buffers, an estimate.
        process: of the program itself, measured.
    """

    weights: int
    kv: int
    compute: int
    process: int = PROCESS_BYTES

    @property
    def total(self) -> int:
        """All of them together."""
        return self.weights + self.kv + self.compute + self.process

    def of_share(self, share: float) -> Need:
        """Returns what is needed here when this share of the layers is here (0 to 1)."""
        return replace(self, weights=int(self.weights * share), kv=int(self.kv * share))


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


def cache_can_be(model: GGUFFile, kv_type: str) -> bool:
    """Whether a token's rows are whole blocks of this type."""
    shape = kv_shape(model)
    return not shape or not any(row % ggml_types.TYPE_SIZES[kv_type][0] for row in shape.rows)


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


def compute_estimate(model: GGUFFile, n_ctx: int, n_ubatch: int) -> int:
    """Returns an estimate of the compute buffers, in bytes.

    Taken as alive at once in a micro-batch: either mask and attention scores of all heads over the
    whole context (flash attention needs less) with the latent of one layer expanded in f16, or the
    FFN's activations; beside them the residual stream's, and one token's logits. For PLM-1.8B at
    4096 tokens that is about 200 MiB, where the engine reported 134.
    """
    shape = kv_shape(model)
    n_ubatch = min(n_ubatch, n_ctx)
    n_embd = _count(model, "embedding_length") or 0
    n_ff = _count(model, "feed_forward_length") or 4 * n_embd
    heads = _per_layer(model, "attention.head_count", _count(model, "block_count"))
    attention = n_ctx * n_ubatch * (1 + max(heads, default=0)) * F32
    if shape and shape.latent:
        attention += n_ctx * shape.expanded // shape.n_layers * F16
    ffn = n_ubatch * 2 * n_ff * F32
    residual = n_ubatch * 6 * n_embd * F32
    return max(attention, ffn) + residual + _vocabulary(model) * F32


def _vocabulary(model: GGUFFile) -> int:
    tokens = model.keys.get("tokenizer.ggml.tokens")
    return tokens.length if isinstance(tokens, gguf_file.Array) else 0


def of(model: GGUFFile, n_ctx: int, kv_type: str, n_ubatch: int = 512) -> Need:
    """Returns what running `model` takes with a context of `n_ctx` tokens.

    Raises:
        PlmEdgeError: the KV type does not fit the model, or a shard is missing or damaged.
    """
    weights = model.tensor_bytes
    for path in gguf_file.shards(model.path):
        if path != model.path:
            weights += gguf_file.read(path).tensor_bytes
    shape = kv_shape(model)
    kv = n_ctx * shape.bytes_per_token(kv_type) if shape else 0
    return Need(weights, kv, compute_estimate(model, n_ctx, n_ubatch))


def check(
    model: GGUFFile, n_ctx: int, kv_type: str, n_ubatch: int = 512, room: int | None = None
) -> Need:
    """Refuse in advance a model that will not fit.

    Args:
        room: bytes available; measured when None.

    Raises:
        PlmEdgeError: it will not fit; names the numbers and what to lower (code RESOURCES).
    """
    wanted = of(model, n_ctx, kv_type, n_ubatch)
    found = memory.available() if room is None else Room(room, "this machine")
    if wanted.total <= found.bytes:
        return wanted
    raise refusal(model, wanted, n_ctx, kv_type, n_ubatch, found)


def refusal(
    model: GGUFFile, wanted: Need, n_ctx: int, kv_type: str, n_ubatch: int, room: Room
) -> PlmEdgeError:
    """Returns the error of a model that will not fit: the numbers, and what to lower."""
    return PlmEdgeError(
        f"not enough memory for {model.path.name}",
        f"it needs about {mib(wanted.total)} MiB (weights {mib(wanted.weights)}, "
        f"KV cache {mib(wanted.kv)} for {n_ctx:,} tokens in {kv_type}, compute about "
        f"{mib(wanted.compute)}, program about {mib(wanted.process)}); "
        f"{mib(room.bytes)} MiB are available to {room.bound_by}",
        _what_to_lower(model, n_ctx, kv_type, n_ubatch, room.bytes),
        ExitCode.RESOURCES,
    )


def _what_to_lower(model: GGUFFile, n_ctx: int, kv_type: str, n_ubatch: int, room: int) -> str:
    """The first remedy that is enough, mildest first."""
    smaller = KV_TYPES[KV_TYPES.index(kv_type) :] if kv_type in KV_TYPES else (kv_type, *KV_TYPES)
    for kv in smaller:
        if kv != kv_type and not cache_can_be(model, kv):
            continue
        for ctx in (n_ctx, *(c for c in (4096, 2048, 1024, 512) if c < n_ctx)):
            if of(model, ctx, kv, n_ubatch).total <= room:
                flags = [f"--ctx {ctx}"] if ctx != n_ctx else []
                flags += [f"--kv {kv}"] if kv != kv_type else []
                return f"use {' '.join(flags)}, close other programs, or insist with --force"
    return "convert to a smaller type (--quant q4_k), close other programs, or insist with --force"


def mib(n_bytes: int) -> str:
    """Returns a number of bytes in MiB, as text."""
    return f"{n_bytes / MIB:,.0f}"
