"""What this machine can do at most, measured: how fast it reads memory, how fast it multiplies.

On a device, where there may be no Python, `native/capability.cpp` tells the same of it, and reads
by the same product. Here numpy multiplies, whose BLAS is faster than ggml's float32 product.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from plm_edge.bench import kernels
from plm_edge.bench.ggml_cpu import Cpu

ROUNDS = 5
SIZE = 1024  # of the square matrices
_LIMITS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def measure(threads: int) -> dict[str, Any]:
    """Read bandwidth and multiplication rate with `threads` threads, in a process of its own.

    Returns:
        read_bytes_s: bytes a second, the best of some rounds over a buffer that no cache holds
            (`kernels.read_rates`: as weights are read, and in the same kind of pages).
        flops: float32 operations a second of matrix products (two each multiplication).
        how: in words.
    """
    from plm_edge.bench.runner import worker_environment

    done = subprocess.run(
        [sys.executable, "-m", "plm_edge.bench.capability", str(threads)],
        capture_output=True,
        text=True,
        env=worker_environment() | dict.fromkeys(_LIMITS, str(threads)),
        check=True,
    )
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def multiplication() -> tuple[float, list[float]]:
    """The best and all rates of float32 matrix products by numpy's BLAS, operations a second."""
    a = np.ones((SIZE, SIZE), np.float32)
    a @ a
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        a @ a
        rates.append(2 * SIZE**3 / (time.perf_counter() - began))
    return max(rates), rates


def main(threads: int) -> None:
    size = kernels.room(threads)
    cpu = Cpu(threads)
    reads = kernels.read_rates(cpu, size)
    cpu.close()
    flops, all_flops = multiplication()
    made = {
        "threads": threads,
        "read_bytes_s": max(reads),
        "read_samples": reads,
        "read_how": f"{kernels.how(size, threads)}, best round",
        "flops": flops,
        "flops_samples": all_flops,
        "flops_how": f"numpy float32 product of {SIZE} x {SIZE} matrices, best round",
    }
    print(json.dumps(made))


if __name__ == "__main__":
    main(int(sys.argv[1]))
