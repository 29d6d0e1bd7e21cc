"""The kernels whose cycles are estimated: what PLM-1.8B's decode of one token computes.

Each is recorded twice. What the larger recording executes more is what its loop over rows takes:
rounding the vector, cutting the work into parts and starting the operation are in both.
"""

from __future__ import annotations

from dataclasses import dataclass

from plm_edge.bench.cycles import simulator
from plm_edge.bench.cycles.cores import Core
from plm_edge.bench.cycles.recording import Recorder, Recording
from plm_edge.bench.cycles.simulator import Llvm, Words

WEIGHTS = ("q3_K", "q4_K", "q5_K", "q6_K", "q8_0", "q4_0", "f16")
BY_ROWS = ("q4_K", "q5_K", "q6_K", "q8_0", "q4_0", "f16")
LATENT_WEIGHTS = ("q4_K", "q5_K")  # of attn_kv_b
CACHES = ("f16", "q8_0", "q4_0")
COLUMNS = 2048  # n_embd
ROWS = (64, 192)
USED = 10  # of W_down's rows one in so many is used (90 % zeros)
LOGITS = (512, 1536)
CODED = COLUMNS // 2  # columns of the output matrix's codes, as the converter makes them
STOCK_HEAD = "q6_K"  # the output matrix of llama.cpp's Q4_K_M
CACHED = (512, 1024)  # tokens
HEADS, ROW, LATENT, NOPE = 16, 576, 512, 128

Arguments = tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """One kernel for one type.

    Attributes:
        kind: what it is, by the keys of benchmarks/arm_report.py's labels.
        type: of the weights or of the cache, by ggml's names.
        small, large: bench-plm-cycles' arguments for both recordings.
        n_products: multiplications that the larger one has more.
        upstream: what upstream computes in its place, by its name; empty: the same code, or nothing
            like it.
        alike: both recordings are of one loop, so that the larger one's cycles an instruction are
            those of what it has more.
    """

    kind: str
    type: str
    small: Arguments
    large: Arguments
    n_products: int
    upstream: str = ""
    alike: bool = True

    @property
    def name(self) -> str:
        """As results and estimates name it: "q4_K", "rows q4_K", "attention f16"."""
        return self.type if self.kind == "product" else f"{self.kind} {self.type}"


def _by_rows(kind: str, type_: str, columns: int, sizes: tuple[int, int], *, of: int = 1) -> Kernel:
    """A kernel over rows, of which one in `of` is read."""
    program = {"rows": "sparse"}.get(kind, kind)
    small, large = ((program, type_, str(columns), str(size * of)) for size in sizes)
    upstream = type_ if kind in ("rows", "transposed") else ""
    return Kernel(kind, type_, small, large, (sizes[1] - sizes[0]) * columns, upstream)


def _attention(kind: str, type_: str, upstream: str = "") -> Kernel:
    small, large = ((kind, type_, str(cached)) for cached in CACHED)
    products = (CACHED[1] - CACHED[0]) * HEADS * (ROW + LATENT)
    return Kernel(kind, type_, small, large, products, upstream)


def _planes(kind: str, lower: str) -> Kernel:
    """W_up in planes, with the lower bits of no, some or all rows."""
    small, large = (("planes", lower, str(COLUMNS), str(rows)) for rows in ROWS)
    return Kernel(kind, "q4_K", small, large, (ROWS[1] - ROWS[0]) * COLUMNS, "q4_K")


def _lower() -> Kernel:
    """The lower bits of all rows: what a product with them executes more than one without."""
    none, all_ = (("planes", lower, str(COLUMNS), str(ROWS[1])) for lower in ("none", "all"))
    return Kernel("lower", "q4_K", none, all_, ROWS[1] * COLUMNS, alike=False)


def _codes() -> Kernel:
    small, large = (("codes", "q5_K", str(COLUMNS), str(logits)) for logits in LOGITS)
    return Kernel("codes", "2 bits", small, large, (LOGITS[1] - LOGITS[0]) * CODED, STOCK_HEAD)


KERNELS = [
    *(_by_rows("product", type_, COLUMNS, ROWS) for type_ in WEIGHTS),
    *(_by_rows("plain", type_, COLUMNS, ROWS) for type_ in ("q4_K", "q5_K", "q6_K")),
    *(_by_rows("transposed", type_, LATENT, (NOPE, 2 * NOPE)) for type_ in LATENT_WEIGHTS),
    _planes("planes", "some"),
    _planes("upper", "none"),
    _lower(),
    *(_by_rows("rows", type_, COLUMNS, ROWS, of=USED) for type_ in BY_ROWS),
    _codes(),
    *(_attention("attention", type_, f"attention-upstream {type_}") for type_ in CACHES),
]
UPSTREAM = [_attention("attention-upstream", type_) for type_ in CACHES]
"""Kernels of upstream's that stand beside ours and that our engine does not run."""


def upstream_of(kernel: Kernel) -> Kernel | None:
    """What upstream computes in its place; None: the same code, or nothing like it.

    In place of the product over W_down's used rows that is the dense product of all its rows.
    """
    return next((one for one in (*KERNELS, *UPSTREAM) if one.name == kernel.upstream), None)


@dataclass(frozen=True)
class Executed:
    """What a kernel executes.

    Attributes:
        words: of the larger recording, uint32 [n].
        less: of the smaller one, where that is of another loop.
        instructions, n_bytes: that the larger one has more than the smaller.
    """

    words: Words
    less: Words | None
    instructions: int
    n_bytes: int


def execute(recorder: Recorder, kernel: Kernel) -> Executed:
    """Record a kernel twice.

    Raises:
        PlmEdgeError: the program failed under qemu.
    """
    small, large = (recorder.record(arguments) for arguments in (kernel.small, kernel.large))
    return difference(small, large, alike=kernel.alike)


def difference(small: Recording, large: Recording, *, alike: bool = True) -> Executed:
    """What the larger recording has more."""
    return Executed(
        large.words,
        None if alike else small.words,
        len(large.words) - len(small.words),
        large.n_bytes - small.n_bytes,
    )


def cycles(run: Executed, on: Core, llvm: Llvm) -> float:
    """Cycles of what the larger recording has more, on a model of a core.

    Raises:
        PlmEdgeError: llvm-mca does not know an instruction of it.
    """
    each = simulator.cycles(run.words, on, llvm)
    if run.less is None:
        return each * run.instructions
    return each * len(run.words) - simulator.cycles(run.less, on, llvm) * len(run.less)
