"""An estimate of speed on a machine that is not here: a roofline, with its check on this one.

    r = (W - D·z + n·k) / B                        seconds to read what a token needs
    c = Σ 2·P_i·(1 - z_i) / K_i + 2·a·n / K_a      seconds to compute it, over products i
    s = N·o                                        seconds to start the graph's operations
    decode t/s = 1 / (sqrt((r + c)·max(r, c)) + s), between no overlap of the two and a full one

W bytes of weights a token reads, D those of W_down, z the share of its rows that are zero, n cached
tokens, k bytes of each in the cache, P_i multiplications of products that one kernel computes and
z_i the share of them that is left out, a multiplications for each cached token, N operations in the
graph, B bytes a second that the machine reads. `cost.py` has what else is not read: lower bits of
W_up in planes, rows of an output matrix in two stages.

Prefill of m tokens is m / max(r, m·c), with F (`machines.py`) for all of K.

K_i, operations a second of one token's products by a kernel, and K_a of its attention, follow from
the cycles that LLVM's model of a device's cores takes for our kernels (`bench/cycles/`), where
there is one. Of other devices they are the share of F that products with a type of weights reach
here (`kernels.py`), whichever kernel computes them. o, seconds to start an operation, is measured
here, and a device is taken to need as many clocks. The check takes B as well from a measurement
here, and puts the result beside a run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench.analyse.cost import Cost
from plm_edge.bench.analyse.machines import HERE, Machine, of_profile
from plm_edge.bench.result.shape import Model, Part, Result
from plm_edge.bench.workload import Kind
from plm_edge.devices.profiles.profile import Profile

SCHEMA: Literal["plm-edge/bench-estimate/4"] = "plm-edge/bench-estimate/4"
FORMULA = "t/s = 1/(sqrt((r+c)·max(r,c)) + N·o), r = bytes/B, c = Σ operations/K"
FORMULA_READ = "t/s = 1/(r + N·o), r = bytes/B"
FORMULA_PREFILL = "t/s = m/max(r, m·c), r = bytes/B, c = operations/F"
# Below so many bytes a token a model lies in caches, and what bounds it is not in the formula.
SMALLEST = 128 << 20


class DecodeEstimate(Part, frozen=True, kw_only=True):
    """Decode after `depth` tokens."""

    depth: int
    estimate_tps: float
    bytes_a_token: float
    formula: str


class PrefillEstimate(Part, frozen=True, kw_only=True):
    """Prefill of `n_tokens` tokens."""

    n_tokens: int
    estimate_tps: float
    formula: str


class CheckedPoint(Part, frozen=True, kw_only=True):
    """A point that was measured here, beside what the formula says of it.

    Attributes:
        zeros: share of W_down's rows that were skipped; None where nothing counts them.
        ratio: estimate by measured.
    """

    name: str
    kind: Kind
    depth: int
    zeros: float | None
    estimate_tps: float
    measured_tps: float
    ratio: float
    formula: str


class Check(Part, frozen=True, kw_only=True):
    """The formula on this machine."""

    machine: Machine
    points: list[CheckedPoint]


class DeviceEstimate(Part, frozen=True, kw_only=True):
    """The estimate for a device, as --json writes it.

    Attributes:
        applies: whether the model is so large that no cache holds it.
    """

    schema: Literal["plm-edge/bench-estimate/4"]
    estimate: Literal[True]
    device: str
    model: Model
    machine: Machine
    zeros: float | None
    applies: bool
    decode: list[DecodeEstimate]
    prefill: list[PrefillEstimate]
    check: Check


@dataclass(frozen=True)
class Estimate:
    """Tokens a second: the estimate, and the least and most that the formula allows."""

    tps: float
    low: float
    high: float


def decode(cost: Cost, machine: Machine, depth: float, zeros: float | None) -> Estimate:
    """Estimated decode with `depth` tokens in the cache."""
    read = cost.decode_bytes(depth, zeros) / machine.read_bytes_s
    start = cost.nodes * machine.node_s
    if not machine.flops:
        return Estimate(1 / (read + start), 0.0, 1 / read)
    cache = cost.attention[0] if cost.attention else ""
    attending = machine.rate(f"attention {cache}", "attention")
    compute = 2 * depth * cost.attention_products / attending
    for one in cost.products:
        compute += machine.seconds_of(one, cost.left_out(one, zeros))
    least, most = max(read, compute), read + compute
    return Estimate(1 / (math.sqrt(least * most) + start), 1 / (most + start), 1 / (least + start))


def prefill(cost: Cost, machine: Machine, n: int, zeros: float | None) -> float | None:
    """Estimated prefill of `n` tokens, t/s; None without F."""
    if not machine.flops:
        return None
    read = cost.weight_bytes * -(-n // 512) / machine.read_bytes_s
    return n / max(read, cost.prefill_flops(n, zeros) / machine.flops)


def against_measured(result: Result, cost: Cost, machine: Machine) -> list[CheckedPoint]:
    """The formula for this machine, beside what was measured on it; points of one sequence."""
    made = []
    for point in result.points:
        if point.n_seq != 1 or point.tps is None:
            continue
        guess: float | None
        zeros = point.skipped_rows
        if point.kind == "decode":
            guess = decode(cost, machine, point.depth + point.n_tokens / 2, zeros).tps
        else:
            guess = prefill(cost, machine, point.n_tokens, zeros)
        if guess is not None:
            measured = point.tps.median
            made.append(
                CheckedPoint(
                    name=point.name, kind=point.kind, depth=point.depth, zeros=zeros,
                    estimate_tps=guess, measured_tps=measured, ratio=guess / measured,
                    formula=formula(machine, point.kind),
                )
            )  # fmt: skip
    return made


def formula(machine: Machine, kind: str) -> str:
    """Which of the formulas a figure comes from."""
    if kind == "prefill":
        return FORMULA_PREFILL
    return FORMULA if machine.flops else FORMULA_READ


def of_device(
    profile: Profile,
    cost: Cost,
    result: Result,
    here: Machine,
    depths: tuple[int, ...],
    prompts: tuple[int, ...] = (512,),
) -> DeviceEstimate:
    """The estimate for a device.

    Args:
        result: a run of the same model here: its zeros are the model's, not the machine's, and
            the check of the formula is made with it.
        here: this machine (`of_here`).

    Raises:
        PlmEdgeError: the profile names no bandwidth.
    """
    machine = here if profile.name == HERE else of_profile(profile)
    if machine is None:
        raise PlmEdgeError(
            f"{profile.name} cannot be estimated",
            "its profile names no memory bandwidth",
            "add [memory] bandwidth or reached, with its source, to a profile of your own",
        )
    if machine is not here:
        cache = cost.attention[0] if cost.attention else ""
        machine = machine.like(here).running(cost.products, cache)
    shares = [point.skipped_rows for point in result.points]
    zeros = next((share for share in reversed(shares) if share is not None), None)
    guesses = [(n, prefill(cost, machine, n, zeros)) for n in prompts]
    return DeviceEstimate(
        schema=SCHEMA,
        estimate=True,
        device=profile.name,
        model=result.model,
        machine=machine,
        zeros=zeros,
        applies=cost.decode_bytes(0, zeros) >= SMALLEST,
        decode=[
            DecodeEstimate(
                depth=depth,
                estimate_tps=decode(cost, machine, depth, zeros).tps,
                bytes_a_token=cost.decode_bytes(depth, zeros),
                formula=formula(machine, "decode"),
            )
            for depth in depths
        ],
        prefill=[
            PrefillEstimate(n_tokens=n, estimate_tps=tps, formula=FORMULA_PREFILL)
            for n, tps in guesses
            if tps is not None
        ],
        check=Check(machine=here, points=against_measured(result, cost, here)),
    )
