"""The kernels whose cycles are estimated: what PLM-1.8B's decode of one token computes.

Each is recorded at two sizes. What the larger one executes more is what its loop over rows takes:
rounding the vector, cutting the work into parts and starting the operation are in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from plm_edge.bench.cycles.recording import Recorder, Recording
from plm_edge.bench.cycles.simulator import Words

WEIGHTS = ("q4_K", "q5_K", "q6_K", "q8_0", "q4_0", "f16")
CACHES = ("f16", "q8_0", "q4_0")
COLUMNS = 2048  # n_embd
ROWS = (64, 192)
USED = 10  # of W_down's rows one in so many is used (90 % zeros)
CACHED = (512, 1024)  # tokens
HEADS, ROW, LATENT = 16, 576, 512


@dataclass(frozen=True)
class Kernel:
    """One kernel for one type.

    Attributes:
        kind: "product", "rows" (the sparse product over rows) or "attention".
        type: of the weights or of the cache, by ggml's names.
        ours, upstream: bench-plm-cycles' first argument; the same where ours is upstream's.
        sizes: its last argument, small and large.
        products: multiplications a row or cached token that is read.
        one_in: rows of which one is read.
    """

    kind: str
    type: str
    ours: str
    upstream: str
    sizes: tuple[int, int]
    products: int
    one_in: int = 1

    @property
    def name(self) -> str:
        """As results and estimates name it: "q4_K", "rows q4_K", "attention f16"."""
        return self.type if self.kind == "product" else f"{self.kind} {self.type}"

    @property
    def n_products(self) -> int:
        """Multiplications that the larger size has more than the smaller."""
        return (self.sizes[1] - self.sizes[0]) // self.one_in * self.products


def _kernels() -> list[Kernel]:
    some = (ROWS[0] * USED, ROWS[1] * USED)
    attended = HEADS * (ROW + LATENT)
    return [
        *(Kernel("product", t, "product", "product", ROWS, COLUMNS) for t in WEIGHTS),
        *(Kernel("rows", t, "sparse", "product", some, COLUMNS, USED) for t in WEIGHTS),
        *(
            Kernel("attention", t, "attention", "attention-upstream", CACHED, attended)
            for t in CACHES
        ),
    ]  # fmt: skip


KERNELS = _kernels()


@dataclass(frozen=True)
class Executed:
    """What a kernel executes.

    Attributes:
        words: of the larger size, uint32 [n].
        instructions, n_bytes: that the larger size has more than the smaller.
    """

    words: Words
    instructions: int
    n_bytes: int


def execute(recorder: Recorder, kernel: Kernel) -> Executed:
    """Record a kernel at both sizes.

    Raises:
        PlmEdgeError: the program failed under qemu.
    """
    small, large = (recorder.record(_arguments(kernel, size)) for size in kernel.sizes)
    return difference(small, large)


def difference(small: Recording, large: Recording) -> Executed:
    """What the larger recording has more."""
    return Executed(large.words, len(large.words) - len(small.words), large.n_bytes - small.n_bytes)


def _arguments(kernel: Kernel, size: int) -> list[str]:
    columns = [] if kernel.kind == "attention" else [str(COLUMNS)]
    return [kernel.ours, kernel.type, *columns, str(size)]


def upstream_of(kernel: Kernel) -> Kernel | None:
    """What upstream computes in its place; None: the same kernel.

    In place of the product over W_down's used rows that is the dense product of all its rows.
    """
    if kernel.upstream == kernel.ours:
        return None
    if kernel.kind == "rows":
        return Kernel("product", kernel.type, "product", "product", ROWS, COLUMNS)
    return replace(kernel, ours=kernel.upstream)
