"""What bounds a point: bytes read against bandwidth in decode, operations in prefill."""

from __future__ import annotations

from typing import Literal

from plm_edge.bench.analyse.cost import Cost
from plm_edge.bench.result.shape import Bounds, Capability, Point


def of_point(point: Point, cost: Cost, capability: Capability) -> Bounds:
    """Bytes and operations a second that a point reached, as shares of the machine's.

    Decode of several sequences reads the weights once for all of them; the rows that are zero
    for one sequence may be needed by another, so that its bytes are a lower bound.
    """
    assert point.seconds is not None
    zeros = point.skipped_rows
    seconds = point.seconds.median
    if point.kind == "prefill":
        flops = cost.prefill_flops(point.n_tokens, zeros)
        n_read = float(cost.weight_bytes + point.n_tokens * cost.kv_bytes)
        n_read *= -(-point.n_tokens // 512)
        steps = 1
    else:
        steps = point.n_tokens
        depth = point.depth + point.n_tokens / 2
        n_seq = point.n_seq
        together = cost.decode_bytes(0, zeros)
        n_read = together + n_seq * depth * cost.kv_bytes
        flops = n_seq * cost.decode_flops(depth, zeros)
    a_step = seconds / steps
    read_share = n_read / a_step / capability.read_bytes_s
    flop_share = flops / a_step / capability.flops
    return Bounds(
        bytes_a_step=n_read,
        flops_a_step=flops,
        bytes_s=n_read / a_step,
        flops_s=flops / a_step,
        bandwidth_share=read_share,
        compute_share=flop_share,
        bound_by=_name(read_share, flop_share),
    )


# Below both of these shares neither memory nor arithmetic explains the time: overhead does,
# the start and end of each node of a small graph.
_LITTLE = 0.35


def _name(read_share: float, flop_share: float) -> Literal["memory", "compute", "overhead"]:
    if max(read_share, flop_share) < _LITTLE:
        return "overhead"
    return "memory" if read_share >= flop_share else "compute"
