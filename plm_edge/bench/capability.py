"""What this machine can do at most, measured: how fast it reads memory, how fast it multiplies."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import psutil

ROUNDS = 5
LARGEST = 256 << 20  # bytes a thread reads in a round: beyond any cache of these machines
SIZE = 1024  # of the square matrices
_LIMITS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def measure(threads: int) -> dict[str, Any]:
    """Read bandwidth and multiplication rate with `threads` threads, in a process of its own.

    Returns:
        read_bytes_s: bytes a second, the best of some rounds over a buffer that no cache holds.
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


def read_bandwidth(threads: int, size: int) -> tuple[float, list[float]]:
    """The best and all rates, in bytes a second, at which `threads` threads sum up `size` bytes
    each. numpy's sum lets go of the interpreter and is bound by memory: within 3 % of glibc's
    memchr over the same buffers, where it was compared."""
    buffers = [np.ones(size // 8, np.uint64) for _ in range(threads)]
    rates = []
    for _ in range(ROUNDS):
        gate = threading.Barrier(threads)
        times: list[tuple[float, float]] = []

        def read(
            buffer: Any,
            gate: threading.Barrier = gate,
            times: list[tuple[float, float]] = times,
        ) -> None:
            gate.wait()
            # by the readers' own clocks: another thread might see them start too late
            began = time.perf_counter()
            buffer.sum()
            times.append((began, time.perf_counter()))

        readers = [threading.Thread(target=read, args=(buffer,)) for buffer in buffers]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        spent = max(end for _, end in times) - min(begin for begin, _ in times)
        rates.append(threads * buffers[0].nbytes / spent)
    return max(rates), rates


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
    size = min(LARGEST, psutil.virtual_memory().available // (8 * threads)) // 4096 * 4096
    read, reads = read_bandwidth(threads, size)
    flops, all_flops = multiplication()
    made = {
        "threads": threads,
        "read_bytes_s": read,
        "read_samples": reads,
        "read_how": f"numpy sum over {size >> 20} MiB by each of {threads} threads, best round",
        "flops": flops,
        "flops_samples": all_flops,
        "flops_how": f"numpy float32 product of {SIZE} x {SIZE} matrices, best round",
    }
    print(json.dumps(made))


if __name__ == "__main__":
    main(int(sys.argv[1]))
