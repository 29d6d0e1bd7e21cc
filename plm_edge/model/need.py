"""This module says what a model will need before it is loaded, and whether the machine has it.

Weights and KV cache are counted exactly from the GGUF's header; the compute buffers are an
estimate and called one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.machine import memory
from plm_edge.machine.memory import Room
from plm_edge.model import sizes
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.model.sizes import Sizes

KV_TYPES = ("f16", "q8_0", "q4_0")
F16 = 2  # bytes
F32 = 4
MIB = 1 << 20
N_BATCH = 512  # tokens computed at once, unless told; llama-server may want all their logits
# Interpreter, bindings, tokenizer: what `plm-edge run` takes beyond the model's own buffers.
# Measured about 50 MiB with PLM-1.8B's vocabulary; the rest is slack.
PROCESS_BYTES = 80 * MIB


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


def compute_estimate(model: GGUFFile | Sizes, n_ctx: int, n_ubatch: int) -> int:
    """Returns an estimate of the compute buffers, in bytes.

    Taken as alive at once in a micro-batch: either mask and attention scores of all heads over the
    whole context (flash attention needs less) with the latent of one layer expanded in f16, or the
    FFN's activations; beside them the residual stream's, and one token's logits. For PLM-1.8B at
    4096 tokens that is about 200 MiB, where the engine reported 134.
    """
    known = sizes.of(model)
    n_ubatch = min(n_ubatch, n_ctx)
    attention = n_ctx * n_ubatch * (1 + known.heads) * F32
    if known.kv and known.kv.latent:
        attention += n_ctx * known.kv.expanded // known.kv.n_layers * F16
    ffn = n_ubatch * 2 * known.n_ff * F32
    residual = n_ubatch * 6 * known.n_embd * F32
    return max(attention, ffn) + residual + known.vocabulary * F32


def of(
    model: GGUFFile | Sizes, n_ctx: int, kv_type: str, n_ubatch: int = N_BATCH, n_seq: int = 1
) -> Need:
    """Returns what running `model` takes with `n_seq` contexts of `n_ctx` tokens each.

    Raises:
        PlmEdgeError: the KV type does not fit the model, or a shard is missing or damaged.
    """
    known = sizes.of(model)
    n_ctx *= n_seq
    kv = n_ctx * known.kv.bytes_per_token(kv_type) if known.kv else 0
    return Need(known.weights, kv, compute_estimate(known, n_ctx, n_ubatch))


def check(
    model: GGUFFile | Sizes,
    n_ctx: int,
    kv_type: str,
    n_ubatch: int = N_BATCH,
    room: int | None = None,
    share: float = 1.0,
) -> Need:
    """Refuse in advance a model that will not fit.

    Args:
        room: bytes available; measured when None.
        share: of weights and cache that is here, the rest being on other devices.

    Raises:
        PlmEdgeError: it will not fit; names the numbers and what to lower (code RESOURCES).
    """
    known = sizes.of(model)
    wanted = of(known, n_ctx, kv_type, n_ubatch).of_share(share)
    found = memory.available() if room is None else Room(room, "this machine")
    if wanted.total <= found.bytes:
        return wanted
    raise refusal(known, wanted, n_ctx, kv_type, n_ubatch, found)


def refusal(
    model: Sizes,
    wanted: Need,
    n_ctx: int,
    kv_type: str,
    n_ubatch: int,
    room: Room,
    n_seq: int = 1,
) -> PlmEdgeError:
    """Returns the error of a model that will not fit: the numbers, and what to lower."""
    tokens = f"{n_ctx:,} tokens" if n_seq == 1 else f"{n_seq} times {n_ctx:,} tokens"
    return PlmEdgeError(
        f"not enough memory for {model.name}",
        f"it needs about {mib(wanted.total)} MiB (weights {mib(wanted.weights)}, "
        f"KV cache {mib(wanted.kv)} for {tokens} in {kv_type}, compute about "
        f"{mib(wanted.compute)}, program about {mib(wanted.process)}); "
        f"{mib(room.bytes)} MiB are available to {room.bound_by}",
        _what_to_lower(model, n_ctx, kv_type, n_ubatch, room.bytes, n_seq),
        ExitCode.RESOURCES,
    )


def _what_to_lower(
    model: Sizes, n_ctx: int, kv_type: str, n_ubatch: int, room: int, n_seq: int
) -> str:
    """The first remedy that is enough, mildest first."""
    smaller = KV_TYPES[KV_TYPES.index(kv_type) :] if kv_type in KV_TYPES else (kv_type, *KV_TYPES)
    for kv in smaller:
        if kv != kv_type and not model.cache_can_be(kv):
            continue
        for ctx in (n_ctx, *(c for c in (4096, 2048, 1024, 512) if c < n_ctx)):
            if of(model, ctx, kv, n_ubatch, n_seq).total <= room:
                flags = [f"--ctx {ctx}"] if ctx != n_ctx else []
                flags += [f"--kv {kv}"] if kv != kv_type else []
                return f"use {' '.join(flags)}, close other programs, or insist with --force"
    return "convert to a smaller type (--quant q4_k), close other programs, or insist with --force"


def mib(n_bytes: int) -> str:
    """Returns a number of bytes in MiB, as text."""
    return f"{n_bytes / MIB:,.0f}"
