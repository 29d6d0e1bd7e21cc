"""How fast this machine's kernels are, measured with ggml itself: reading, computing, starting.

Products of a matrix and one token's vector, as in decode, by the engine's own threads and in
buffers that it made, so that their pages are those of weights:

- bytes read a second: of a float32 matrix that no cache holds. Its arithmetic is so little that
  reading bounds it, and it is read as weights are: a stream a thread. `capability.py` tells the
  same of this machine, `native/capability.cpp` of a device, so that their shares are comparable;
- of each type, operations a second: of matrices that lie in the cores' caches, in two sizes, so
  that what starting a product costs is no part of it (the slope of time by size),
- and seconds a node: that cost (the same line at no size);
- of latent attention, operations a second in the same way, over two numbers of cached tokens.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from plm_edge.bench.ggml_cpu import Cpu

READ_ROUNDS = 15
ROUNDS = 40
LARGEST = 256 << 20  # bytes a thread reads: beyond any cache of these machines
SMALL, LARGE = 16, 128  # rows a thread of matrices that lie in caches
NODES = 64  # products one after another, so that the graph's own start counts little
FEW, MANY = 256, 1024  # cached tokens
FLOATS = 4096  # columns of the matrix that is read


def measure(
    types: Sequence[str],
    columns: int,
    threads: int,
    attention: tuple[str, int, int, int] | None = None,
) -> dict[str, Any]:
    """Measure in a process of its own.

    Args:
        types: of weights, by ggml's names.
        columns: values of a row.
        attention: type of the cache, values of its row, of them latent, heads; None: not measured.

    Returns:
        read_bytes_s (median) and read_samples, read_how; types: by name, ops_s (two each
        multiplication), "attention" among them where it was asked for; node_s; threads.
    """
    from plm_edge.bench.runner import worker_environment

    request: dict[str, Any] = {"types": list(types), "columns": columns, "threads": threads}
    request["attention"] = attention
    done = subprocess.run(
        [sys.executable, "-m", "plm_edge.bench.kernels", json.dumps(request)],
        capture_output=True, text=True, env=worker_environment(), check=True,
    )  # fmt: skip
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def read_rates(cpu: Cpu, size: int) -> list[float]:
    """Bytes a second of each round over a float32 matrix of about `size` bytes."""
    with cpu.products("f32", FLOATS, max(1, size // (4 * FLOATS))) as (n_bytes, compute):
        compute()
        return [n_bytes / seconds for seconds in times(compute, READ_ROUNDS)]


def room(threads: int) -> int:
    """Bytes for the matrix that is read: more than caches hold, little of what is free."""
    return min(LARGEST * threads, psutil.virtual_memory().available // 8)


def how(size: int, threads: int) -> str:
    """What `read_rates` does, in words."""
    return f"the engine's float32 product of {size >> 20} MiB with a vector, {threads} threads"


def times(compute: Callable[[], None], rounds: int) -> list[float]:
    """Seconds of each call."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        compute()
        found.append(time.perf_counter() - began)
    return found


def rate_of(cpu: Cpu, kind: str, columns: int, threads: int) -> tuple[float, float]:
    """Operations a second of products of a type, and seconds that a product takes besides."""
    found = []
    for rows in (SMALL * threads, LARGE * threads):
        with cpu.products(kind, columns, rows, NODES) as (_, compute):
            compute()
            found.append(statistics.median(times(compute, ROUNDS)) / NODES)
    small, large = found
    a_row = max(large - small, 1e-12) / ((LARGE - SMALL) * threads)
    return 2 * columns / a_row, max(0.0, small - a_row * SMALL * threads)


def attention_rate(cpu: Cpu, kind: str, row: int, latent: int, heads: int) -> float:
    """Operations a second of absorbed attention: 2·heads·(row + latent) a cached token."""
    found = []
    for cached in (FEW, MANY):
        with cpu.attention(kind, row, latent, heads, cached, NODES // 4) as compute:
            compute()
            found.append(statistics.median(times(compute, ROUNDS)) / (NODES // 4))
    a_token = max(found[1] - found[0], 1e-12) / (MANY - FEW)
    return 2 * heads * (row + latent) / a_token


def main(
    types: list[str], columns: int, threads: int, attention: tuple[str, int, int, int] | None
) -> None:
    size = room(threads)
    cpu = Cpu(threads)
    read = read_rates(cpu, size)
    rates = {kind: rate_of(cpu, kind, columns, threads) for kind in types}
    shown = {kind: {"ops_s": ops, "node_s": node} for kind, (ops, node) in rates.items()}
    if attention:
        shown["attention"] = {"ops_s": attention_rate(cpu, *attention), "node_s": 0.0}
    cpu.close()
    made = {
        "threads": threads,
        "read_bytes_s": statistics.median(read),
        "read_samples": read,
        "read_how": f"{how(size, threads)}, median",
        "types": shown,
        "node_s": statistics.median(node for _, node in rates.values()) if rates else 0.0,
    }
    print(json.dumps(made))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
