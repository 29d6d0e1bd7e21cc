"""How long a run will take: foreseen from the model's size, then from the points that are done.

A point takes its budget, or as long as its least number of repeats if that is longer: a large model
decodes 128 tokens in seconds, and five of these are more than a budget of ten.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from plm_edge.bench.analyse.cost import Cost
from plm_edge.bench.workload import Point, Workload

# A small machine's, until points of this run tell better: what is said first is rather too long.
READ_BYTES_S = 15e9
FLOPS = 1e11
# Interpreter, bindings and a model of a gigabyte: what a point takes beside its samples.
POINT_OVERHEAD_S = 1.5


def sample_seconds(point: Point, cost: Cost) -> float:
    """One repeat of a point."""
    if point.kind == "load":
        return cost.weight_bytes / READ_BYTES_S
    if point.kind == "prefill":
        return cost.prefill_flops(point.n_tokens, None) / FLOPS
    read = cost.decode_bytes(0, None) + point.n_seq * point.depth * cost.kv_bytes
    compute = point.n_seq * cost.decode_flops(point.depth, None)
    return point.n_tokens * max(read / READ_BYTES_S, compute / FLOPS)


def point_seconds(point: Point, workload: Workload, cost: Cost) -> float:
    """All of a point: its process, filling the cache, a repeat to warm up, and the samples."""
    one = sample_seconds(point, cost)
    fill = 0.0
    if point.kind == "decode" and point.depth:
        fill = point.n_seq * cost.prefill_flops(point.depth, None) / FLOPS
    longest = max(workload.budget_s, workload.min_repeats * one) + one
    samples = min(longest, workload.max_repeats * one)
    warm = one if point.kind == "prefill" else 0.0
    return POINT_OVERHEAD_S + fill + warm + samples


@dataclass
class Clock:
    """What is foreseen for points, and what of it is left; seconds.

    Args:
        foreseen: of each point, in the order in which they are measured.
    """

    foreseen: list[float]
    taken: list[float] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Before anything was measured."""
        return sum(self.foreseen)

    @property
    def left(self) -> float:
        """For the points to come, if these are foreseen as well as those that are done."""
        done = self.foreseen[: len(self.taken)]
        rest = sum(self.foreseen[len(self.taken) :])
        return rest * sum(self.taken) / sum(done) if sum(done) else rest
