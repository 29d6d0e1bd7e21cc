"""What a machine can do at most, measured: how fast it reads memory, how fast it multiplies.

Each machine reads by the engine's own product of a float32 matrix with a vector, so that shares of
the bandwidth can be compared. Here numpy multiplies, whose BLAS is faster than ggml's float32
product; a device, where there may be no Python, multiplies by ggml.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from plm_edge.base import place
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import kernels
from plm_edge.bench.result.shape import Capability
from plm_edge.bench.worker import process
from plm_edge.bench.worker.client import Request
from plm_edge.bench.worker.events import Event

ROUNDS = 5
SIZE = 1024  # of the square matrices
_LIMITS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def measure(threads: int) -> Capability:
    """Read bandwidth and multiplication rate of this machine with `threads` threads.

    Returns:
        The best of some rounds: bytes a second over a buffer that no cache holds
        (`kernels.read_request`: as weights are read, and in the same kind of pages), and float32
        operations a second of matrix products (two each multiplication).

    Raises:
        PlmEdgeError: the engine cannot be run.
    """
    size = kernels.room(threads)
    (read,) = process.ask([kernels.read_request(size, threads)])
    return _of(threads, size, kernels.read_rates(read), _by_numpy(threads), "numpy float32")


def requests(threads: int, size: int) -> list[Request]:
    """What to ask the program for on another machine.

    Args:
        size: bytes to read.
    """
    multiply: Request = {
        "do": "products", "type": "f32", "columns": SIZE, "rows": SIZE, "vectors": SIZE,
        "rounds": ROUNDS, "threads": threads,
    }  # fmt: skip
    return [kernels.read_request(size, threads), multiply]


def of_answers(threads: int, size: int, answers: list[Event]) -> Capability:
    """What the answers to `requests` say, as `measure` returns it."""
    read, multiplied = answers
    flops = [2 * SIZE**3 / seconds for seconds in multiplied["seconds"]]
    return _of(threads, size, kernels.read_rates(read), flops, "ggml's float32")


def _of(threads: int, size: int, reads: list[float], flops: list[float], by: str) -> Capability:
    return Capability(
        threads=threads,
        read_bytes_s=max(reads),
        read_samples=reads,
        read_how=f"{kernels.how(size, threads)}, best round",
        flops=max(flops),
        flops_samples=flops,
        flops_how=f"{by} product of {SIZE} x {SIZE} matrices, best round",
    )


def _by_numpy(threads: int) -> list[float]:
    """Rates of float32 products by numpy's BLAS, which takes its threads when a process starts."""
    root = place.checkout()  # which may not be installed
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [*([str(root)] if root else []), *filter(None, before)]
    done = subprocess.run(
        [sys.executable, "-m", "plm_edge.bench.capability"],
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(paths)}
        | dict.fromkeys(_LIMITS, str(threads)),
    )
    if done.returncode:
        raise PlmEdgeError(
            "the machine's float32 products could not be timed",
            (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1],
            "see whether `python -m plm_edge.bench.capability` works by itself",
            ExitCode.ENVIRONMENT,
        )
    made: list[float] = json.loads(done.stdout)
    return made


def multiplication() -> list[float]:
    """Operations a second of float32 matrix products by numpy, one figure a round."""
    import numpy as np

    a = np.ones((SIZE, SIZE), np.float32)
    a @ a
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        a @ a
        rates.append(2 * SIZE**3 / (time.perf_counter() - began))
    return rates


if __name__ == "__main__":
    print(json.dumps(multiplication()))
