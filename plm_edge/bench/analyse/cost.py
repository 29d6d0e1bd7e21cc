"""What a token costs a model in bytes and operations, from its header: the roofline's two axes.

Decode of one token with n cached tokens reads every weight once and the cache once:

    bytes = W - D·z - L·s - H·u + n·k
                                 W: weights that a token uses; D: W_down; z: share of zero rows;
                                 L: lower bits of W_up in planes; s: share of rows without them;
                                 H: an output matrix with a coarse form; u: its rows not read
    flops = 2·(P - P_D·z) + a·n  k: cache bytes a token; P: parameters of W; a: of attention

Embeddings that are not the output matrix as well are one row, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

from plm_edge.bench.analyse.products import Product
from plm_edge.model import sizes
from plm_edge.model.description import Description, describe
from plm_edge.model.gguf_file import COARSE, GGUFFile, Tensor
from plm_edge.model.sizes import LOW_SHARE

OUTPUT, EMBEDDING = "output.weight", "token_embd."  # an embedding may be in parts
# As `plm-edge profile` counts them in a step of PLM, views apart; others have about as many.
NODES_A_LAYER, NODES_BESIDES = 22, 6
OPEN = 0.4
"""How much farther down the lower bits are read than to zero, in spreads of the rows' values: by
the engine's counts 0.35 on tiny-plm and 0.42 on the synthetic 1.8B (tests/bench/test_cost.py)."""
HEAD_UNREAD = 0.81
"""The share of an output matrix's rows that are not read where it has a coarse form: an estimate,
by the engine's counts on the synthetic 1.8B (docs/lab/head.md). It differs by text and model."""


@dataclass(frozen=True)
class Cost:
    """Of one model with one KV type. Bytes and numbers of values."""

    weight_bytes: int  # all that a token reads, W_down with them
    down_bytes: int  # of W_down in all layers: its rows of zero activations are skipped
    params: int
    down_params: int
    kv_bytes: int  # a cached token, all layers
    attention_products: int  # multiplications a token and cached token, absorbed form
    low_bytes: int = 0  # lower bits of W_up in planes
    head_bytes: int = 0  # of an output matrix with a coarse form
    nodes: int = 0  # operations of the graph, each of which all threads begin together
    products: tuple[Product, ...] = ()  # with matrices, those of a kind together
    attention: tuple[str, int, int, int] | None = None  # KV type, row, its latent part, heads

    def numbers(self) -> dict[str, int]:
        """Bytes, parameters and operations by name, for a result."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}

    @property
    def types(self) -> list[str]:
        """Types of weights of which a machine's speed tells that of all products."""
        return sorted({one.kernels[-1] for one in self.products if not one.within})

    def left_out(self, product: Product, zeros: float | None) -> float:
        """The share of a product that is not computed where so many of W_down's rows are zero."""
        if product.skips == "zeros":
            return zeros or 0.0
        if product.skips == "lower":
            return low_skipped(zeros or 0.0)
        return HEAD_UNREAD if product.skips == "head" else 0.0

    def decode_bytes(self, depth: float, zeros: float | None) -> float:
        """Bytes that one token reads with `depth` tokens in the cache."""
        skipped = self.down_bytes * (zeros or 0.0) + self.low_bytes * low_skipped(zeros or 0.0)
        skipped += self.head_bytes * HEAD_UNREAD
        return self.weight_bytes - skipped + depth * self.kv_bytes

    def decode_flops(self, depth: float, zeros: float | None) -> float:
        """Operations for one token (two each multiplication)."""
        return 2 * (
            self.params - self.down_params * (zeros or 0.0) + depth * self.attention_products
        )

    def prefill_flops(self, n: int, zeros: float | None) -> float:
        """Operations for a prompt of `n` tokens, the output matrix once. Attention is counted in
        the absorbed form at half of `n` cached tokens: an estimate, small beside the rest."""
        return n * self.decode_flops(n / 2, zeros)


def low_skipped(zeros: float) -> float:
    """The share of rows in planes whose lower bits are not read: an estimate.

    Rows' values count as normal; a row is skipped where it lies `OPEN` spreads below zero.
    """
    normal = NormalDist()
    if not 0 < zeros < 1:
        return float(zeros >= 1)
    return normal.cdf(normal.inv_cdf(zeros) - OPEN)


def head_of(header: GGUFFile) -> str:
    """What the output matrix's names begin with: the embedding's where there is no other."""
    return OUTPUT if any(tensor.name == OUTPUT for tensor in header.tensors) else EMBEDDING


def of(header: GGUFFile, kv: str, sparse: bool) -> Cost:
    """The cost of a model.

    Args:
        sparse: rows of W_down are skipped (edge layout on our kernels).
    """
    head = head_of(header)
    tied = head == EMBEDDING
    used = [t for t in header.tensors if tied or not t.name.startswith("token_embd")]
    down = [t for t in used if ".ffn_down." in t.name] if sparse else []
    said = describe(header)
    in_planes = said.planes if sparse else frozenset()
    two_stages = sparse and said.two_stages
    weights = [tensor for tensor in used if not tensor.name.startswith(COARSE)]
    low = sum(LOW_SHARE * tensor.n_bytes for tensor in used if tensor.name in in_planes)
    shape = sizes.kv_shape(header)
    products = 0
    latent = None
    heads = header.arch_key("attention.head_count")
    if shape and isinstance(heads, int):
        lora = header.arch_key("attention.kv_lora_rank")
        # absorbed: scores over the whole row, sums over its latent part
        row = sum(shape.rows)
        if shape.latent and isinstance(lora, int):
            latent = (kv, row, lora, heads)
        each = row + lora if shape.latent and isinstance(lora, int) else row
        products = shape.n_layers * heads * each if shape.latent else shape.n_layers * each
    return Cost(
        weight_bytes=sum(tensor.n_bytes for tensor in used),
        down_bytes=sum(tensor.n_bytes for tensor in down),
        params=sum(tensor.n_values for tensor in weights),
        down_params=sum(tensor.n_values for tensor in down),
        low_bytes=round(low),
        head_bytes=sum(t.n_bytes for t in weights if two_stages and t.name.startswith(head)),
        kv_bytes=shape.bytes_per_token(kv) if shape else 0,
        attention_products=products,
        nodes=NODES_A_LAYER * (said.n_layers or 0) + NODES_BESIDES,
        products=_together(_products(header, used, said, sparse)),
        attention=latent,
    )


def _products(
    header: GGUFFile, used: list[Tensor], said: Description, sparse: bool
) -> Iterator[Product]:
    """Each matrix by the kernels that multiply with it; names as in `bench/cycles/kernels.py`."""
    head = head_of(header)
    for t in used:
        if len(t.shape) < 2 or t.name.startswith(COARSE):
            continue
        if not sparse:
            yield Product((t.type,), t.n_values)
        elif t.name in said.planes:
            yield Product((f"upper {t.type}", t.type), t.n_values)
            yield Product((f"lower {t.type}",), t.n_values, "lower", within=True)
        elif ".ffn_down." in t.name:
            yield Product((f"rows {t.type}", t.type), t.n_values, "zeros")
        elif ".attn_kv_b." in t.name:
            keys = round(t.n_values * sizes.share_of_keys(header))
            yield Product((f"transposed {t.type}", f"rows {t.type}", t.type), keys)
            yield Product((f"plain {t.type}", t.type), t.n_values - keys)
        elif said.two_stages and t.name.startswith(head):
            yield Product((f"plain {t.type}", t.type), t.n_values, "head")
        else:
            yield Product((t.type,), t.n_values)
    if sparse and said.two_stages:
        yield from _codes(used, max((t for t in used if t.name.startswith(head)), key=_bytes).type)


def _codes(used: list[Tensor], type_: str) -> Iterator[Product]:
    """All logits by codes of two bits; `type_`: of the output matrix."""
    by_name = {tensor.name.removeprefix(COARSE): tensor for tensor in used}
    basis, bias, columns = (by_name[name] for name in ("basis", "bias", "columns"))
    yield Product((basis.type,), basis.n_values)
    yield Product(("codes 2 bits", type_), bias.n_values * columns.shape[0])


def _bytes(tensor: Tensor) -> int:
    return tensor.n_bytes


def _together(products: Iterator[Product]) -> tuple[Product, ...]:
    """Those by the same kernels as one, in the order of their names."""
    found: dict[Product, int] = {}
    for one in products:
        kind = replace(one, n=0)
        found[kind] = found.get(kind, 0) + one.n
    ordered = sorted(found.items(), key=lambda item: item[0].kernels)
    return tuple(replace(kind, n=n) for kind, n in ordered)
