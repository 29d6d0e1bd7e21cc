"""How fast this machine's kernels are, measured with ggml itself: reading, computing, starting.

Products of a matrix and one token's vector, as in decode, by the engine's own threads and in
buffers that it made, so that their pages are those of weights (native/kernels.cpp):

- bytes read a second: of a float32 matrix that no cache holds. Its arithmetic is so little that
  reading bounds it, and it is read as weights are: a stream a thread;
- of each type, operations a second: of matrices that lie in the cores' caches, in two sizes, so
  that what starting a product costs is no part of it (the slope of time by size),
- and seconds a node: that cost (the same line at no size);
- of latent attention, operations a second in the same way, over two numbers of cached tokens.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from plm_edge.bench.worker import process
from plm_edge.bench.worker.client import Request
from plm_edge.bench.worker.events import Event
from plm_edge.machine import memory

READ_ROUNDS = 15
ROUNDS = 40
LARGEST = 256 << 20  # bytes a thread reads: beyond any cache of these machines
SMALL, LARGE = 16, 128  # rows a thread of matrices that lie in caches
NODES = 64  # products one after another, so that the graph's own start counts little
ATTENTIONS = NODES // 4
FEW, MANY = 256, 1024  # cached tokens
FLOATS = 4096  # columns of the matrix that is read


@dataclass(frozen=True)
class KernelRate:
    """Operations a second, two each multiplication; and seconds to start one of the graph."""

    ops_s: float
    node_s: float


@dataclass(frozen=True)
class Rates:
    """What this machine's kernels reach.

    Attributes:
        read_bytes_s: the median of `read_samples`, bytes a second.
        read_how: in words.
        types: by type of weights; "attention" among them where it was asked for.
        node_s: seconds to start an operation, the median over the types.
    """

    threads: int
    read_bytes_s: float
    read_samples: list[float]
    read_how: str
    types: dict[str, KernelRate]
    node_s: float


def measure(
    types: Sequence[str],
    columns: int,
    threads: int,
    attention: tuple[str, int, int, int] | None = None,
) -> Rates:
    """Measure this machine, in a process of its own.

    Args:
        types: of weights, by ggml's names.
        columns: values of a row.
        attention: type of the cache, values of its row, of them latent, heads; None: not measured.

    Raises:
        PlmEdgeError: the engine cannot be run.
    """
    size = room(threads)
    requests = [read_request(size, threads)]
    requests += [
        _product(kind, columns, rows * threads, threads)
        for kind in types
        for rows in (SMALL, LARGE)
    ]
    if attention:
        requests += [_attention(*attention, cached, threads) for cached in (FEW, MANY)]
    first, *rest = process.ask(requests)
    read = read_rates(first)
    medians = [statistics.median(answer["seconds"]) for answer in rest]
    shown = {}
    for kind in types:
        ops, node = _rate(medians.pop(0) / NODES, medians.pop(0) / NODES, columns, threads)
        shown[kind] = KernelRate(ops, node)
    nodes = [one.node_s for one in shown.values()]
    if attention:
        _, row, latent, heads = attention
        a_token = max((medians[1] - medians[0]) / ATTENTIONS, 1e-12) / (MANY - FEW)
        shown["attention"] = KernelRate(2 * heads * (row + latent) / a_token, 0.0)
    return Rates(
        threads,
        statistics.median(read),
        read,
        f"{how(size, threads)}, median",
        shown,
        statistics.median(nodes) if nodes else 0.0,
    )


def read_request(size: int, threads: int) -> Request:
    """Read a float32 matrix of about `size` bytes, some rounds."""
    rows = max(1, size // (4 * FLOATS))
    return {
        "do": "products", "type": "f32", "columns": FLOATS, "rows": rows, "rounds": READ_ROUNDS,
        "threads": threads,
    }  # fmt: skip


def read_rates(answer: Event) -> list[float]:
    """Bytes a second of each round of a `read_request`."""
    return [answer["bytes"] / seconds for seconds in answer["seconds"]]


def room(threads: int, available: int | None = None) -> int:
    """Bytes for the matrix that is read: more than caches hold, little of what is free.

    Args:
        available: bytes of memory that are free there; None: here.
    """
    available = memory.available().bytes if available is None else available
    return min(LARGEST * threads, available // 8)


def how(size: int, threads: int) -> str:
    """What `read_request` asks for, in words."""
    return f"the engine's float32 product of {size >> 20} MiB with a vector, {threads} threads"


def _product(kind: str, columns: int, rows: int, threads: int) -> Request:
    return {
        "do": "products", "type": kind, "columns": columns, "rows": rows, "nodes": NODES,
        "rounds": ROUNDS, "threads": threads,
    }  # fmt: skip


def _attention(kind: str, row: int, latent: int, heads: int, cached: int, threads: int) -> Request:
    return {
        "do": "attention", "type": kind, "row": row, "latent": latent, "heads": heads,
        "cached": cached, "nodes": ATTENTIONS, "rounds": ROUNDS, "threads": threads,
    }  # fmt: skip


def _rate(small: float, large: float, columns: int, threads: int) -> tuple[float, float]:
    """Operations a second of products of a type, and seconds that a product takes besides.

    Args:
        small, large: seconds of a product with SMALL and with LARGE rows a thread.
    """
    a_row = max(large - small, 1e-12) / ((LARGE - SMALL) * threads)
    return 2 * columns / a_row, max(0.0, small - a_row * SMALL * threads)
