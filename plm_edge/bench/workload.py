"""What is measured: points, named as llama-bench names them (pp512, tg32 @ d2048)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from plm_edge.base.errors import ExitCode, PlmEdgeError

Kind = Literal["load", "prefill", "decode"]


@dataclass(frozen=True)
class Point:
    """One thing to measure, in a process of its own.

    Attributes:
        kind: load (the file into memory), prefill (`n_tokens` at once), decode (one by one).
        n_tokens: tokens in one sample and sequence; 0 for a load.
        depth: tokens in the cache before, in each sequence.
        n_seq: sequences that are decoded together.
        cold: for a load, whether the file is dropped from the page cache first.
    """

    kind: Kind
    n_tokens: int = 0
    depth: int = 0
    n_seq: int = 1
    cold: bool = False

    @property
    def name(self) -> str:
        if self.kind == "load":
            return "load cold" if self.cold else "load warm"
        name = f"{'pp' if self.kind == 'prefill' else 'tg'}{self.n_tokens}"
        name += f" @ d{self.depth}" if self.depth else ""
        return name + (f" x{self.n_seq}" if self.n_seq > 1 else "")

    @property
    def n_ctx(self) -> int:
        """Tokens of context that it takes, all sequences together; streams of 256 cells."""
        each = max(256, -(-(self.depth + self.n_tokens + 1) // 256) * 256)
        return each * self.n_seq


@dataclass(frozen=True)
class Workload:
    """Which points, and how long each is repeated.

    Attributes:
        interval: repeat until the 95 % confidence interval of the mean is at most this share of
            it on either side …
        budget_s: … or until a point has been measured for so many seconds,
        min_repeats, max_repeats: within these limits.
        idle_s: how long idle power is measured first, where anything measures it.
        sample_s: time between two readings of the meters.
    """

    name: str
    prefill: tuple[int, ...] = (128, 512, 2048)
    depths: tuple[int, ...] = (0, 512, 2048, 4096)
    sequences: tuple[int, ...] = (1, 4, 8)
    decode_tokens: int = 32
    loads: bool = True
    interval: float = 0.03
    budget_s: float = 5.0
    min_repeats: int = 3
    max_repeats: int = 200
    warm_up: bool = True
    idle_s: float = 3.0
    sample_s: float = 0.5

    def points(self) -> Iterator[Point]:
        """All points, in the order in which they are measured."""
        if self.loads:
            yield Point("load", cold=True)
            yield Point("load")
        for n in self.prefill:
            yield Point("prefill", n)
        for depth in self.depths:
            yield Point("decode", self.decode_tokens, depth)
        for n_seq in self.sequences:
            if n_seq > 1 or 0 not in self.depths:
                yield Point("decode", self.decode_tokens, 0, n_seq)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


WORKLOADS = {
    "smoke": Workload(
        "smoke", (32,), (0,), (1,), 8, interval=1.0, budget_s=0.5, min_repeats=2, max_repeats=3,
        idle_s=0.2, sample_s=0.1,
    ),
    "quick": Workload("quick", (512,), (0, 2048), (1,), budget_s=3.0),
    "standard": Workload("standard"),
    "long": Workload("long", decode_tokens=128, budget_s=60.0, min_repeats=5),
    # Little of each: qemu is a hundred times slower than a processor.
    "emulated": Workload(
        "emulated", (32,), (0, 128), (1, 4), 4, interval=0.0, budget_s=0.0, min_repeats=2,
        max_repeats=2, idle_s=0.0,
    ),
    # llama-bench's own defaults: five runs of 512 and of 128, whatever the spread.
    "llama-bench": Workload(
        "llama-bench", (512,), (0,), (1,), 128, loads=False, interval=0.0, budget_s=0.0,
        min_repeats=5, max_repeats=5,
    ),
}  # fmt: skip


def find(name: str, **changes: Any) -> Workload:
    """The workload of that name, with those of `changes` that are not None.

    Raises:
        PlmEdgeError: there is none of that name (code USAGE).
    """
    if name not in WORKLOADS:
        raise PlmEdgeError(
            f"there is no workload {name!r}",
            f"known are {', '.join(WORKLOADS)}",
            "give one of them with --workload",
            ExitCode.USAGE,
        )
    return replace(WORKLOADS[name], **{k: v for k, v in changes.items() if v is not None})
