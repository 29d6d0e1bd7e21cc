"""An estimate of speed on a machine that is not here: a roofline, with its check on this one.

    r = (W - D·z + n·k) / B                        seconds to read what a token needs
    c = Σ 2·(P_T - P_D,T·z) / K_T + 2·a·n / K_a    seconds to compute it, over types T of weights
    s = N·o                                        seconds to start the graph's operations
    decode t/s = 1 / (sqrt((r + c)·max(r, c)) + s), between no overlap of the two and a full one

W bytes of weights a token reads, D those of W_down, z the share of its rows that are zero, n cached
tokens, k bytes of each in the cache, P_T and P_D,T the same in parameters of a type, a
multiplications for each cached token, N operations in the graph, B bytes a second that the machine
reads.

F = cores · clock · lanes · 4: float32 operations a second of cores with two vector units, each a
multiplication and an addition a lane and clock. It is a rough figure on purpose, of what every
profile tells. Prefill of m tokens is m / max(r, m·c), with F for all of K.

K_T, operations a second of one token's product in type T, K_a of its attention, and o, seconds to
start an operation, are measured here (`kernels.py`); a device is taken to reach the same share of
its F, and o in as many clocks. The check takes B as well from a measurement here, and puts the
result beside a run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench.analyse.cost import Cost
from plm_edge.bench.result.shape import Result, as_json
from plm_edge.devices.profiles.profile import Profile

SCHEMA = "plm-edge/bench-estimate/3"
FORMULA = "t/s = 1/(sqrt((r+c)·max(r,c)) + N·o), r = bytes/B, c = Σ operations/K"
FORMULA_READ = "t/s = 1/(r + N·o), r = bytes/B"
FORMULA_PREFILL = "t/s = m/max(r, m·c), r = bytes/B, c = operations/F"
# Below so many bytes a token a model lies in caches, and what bounds it is not in the formula.
SMALLEST = 128 << 20
HERE = "host"  # the profile of this machine
_LANES = (("avx512f", 16), ("avx2", 8), ("asimd", 4), ("sse2", 4))


@dataclass(frozen=True)
class Machine:
    """What is known of a machine: bytes read a second, operations a second (None: not known),
    where both come from, and whether the bytes were reached by a program or are the sheet's.

    `kernels`: operations a second by type of weights, where `flops` is not what bounds it.
    `node_s`: seconds to start an operation. `clock`: GHz, where it is known.
    """

    name: str
    read_bytes_s: float
    flops: float | None
    source: str
    reached: bool
    flops_source: str = ""
    kernels: Mapping[str, float] = field(default_factory=dict)
    node_s: float = 0.0
    clock: float | None = None

    def seconds_of(self, kind: str, params: float) -> float:
        """To multiply so many weights of a type with one token's values."""
        assert self.flops
        return 2 * params / self.kernels.get(kind, self.flops)

    def like(self, here: Machine) -> Machine:
        """This machine, if its kernels reach the share of F that they reach `here`."""
        kernels: dict[str, float] = {}
        if self.flops and here.flops:
            kernels = {kind: ops * self.flops / here.flops for kind, ops in here.kernels.items()}
        slower = here.clock / self.clock if here.clock and self.clock else 1.0
        return replace(self, kernels=kernels, node_s=here.node_s * slower)


def flops_of(features: Collection[str], cores: int, clock: float | None) -> float | None:
    """F, operations a second.

    Args:
        features: of the cores, by Linux's names.
        clock: GHz; None: not known.
    """
    lanes = next((lanes for name, lanes in _LANES if name in features), None)
    return cores * clock * 1e9 * lanes * 4 if lanes and clock else None


def of_profile(profile: Profile) -> Machine | None:
    """From a device's profile: the bandwidth that programs reached, else the sheet's; None
    without either. The fastest cores count, as many as it computes with by default."""
    threads = int(profile.section("defaults").get("threads", 0))
    flops: float | None = None
    clocks: list[float] = []
    taken = 0
    for cluster in profile.clusters:
        cores = min(cluster.count, threads - taken) if threads else cluster.count
        of_these = flops_of(profile.features, cores, cluster.clock.value if cluster.clock else None)
        if cores > 0 and of_these:
            flops, taken = (flops or 0) + of_these, taken + cores
            clocks += [cluster.clock.value] if cluster.clock else []
    how = f"{taken} cores · clock · lanes · 4" if flops else "the profile names no clock"
    for name, reached in (("reached", True), ("bandwidth", False)):
        found = profile.measure("memory", name)
        if found and found.unit == "GB/s":
            source = profile.sources.get(found.source, found.source)
            return Machine(
                profile.name, found.value * 1e9, flops, source, reached, how,
                clock=min(clocks, default=None),
            )  # fmt: skip
    return None


def of_here(
    measured: Sequence[Mapping[str, Any]], features: Collection[str], clock: float | None
) -> Machine:
    """This machine: as `kernels.measure` found it, the median of several times; F by the rule
    that holds for profiles.

    Args:
        clock: GHz that the cores show.
    """
    first = measured[0]
    threads = first["threads"]
    rates = [rate for one in measured for rate in one["read_samples"]]
    return Machine(
        "this machine",
        statistics.median(rates),
        flops_of(features, threads, clock),
        f"measured: {first['read_how']} of {len(rates)} rounds, "
        f"{min(rates) / 1e9:.1f} to {max(rates) / 1e9:.1f} GB/s",
        True,
        f"{threads} cores · {clock:.1f} GHz · lanes · 4" if clock else "no clock is shown here",
        {
            kind: statistics.median(one["types"][kind]["ops_s"] for one in measured)
            for kind in first["types"]
        },
        statistics.median(one["node_s"] for one in measured),
        clock,
    )


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
    attending = machine.kernels.get("attention", machine.flops)
    compute = 2 * depth * cost.attention_products / attending + sum(
        machine.seconds_of(kind, params - down * (zeros or 0.0))
        for kind, params, down in cost.types
    )
    least, most = max(read, compute), read + compute
    return Estimate(1 / (math.sqrt(least * most) + start), 1 / (most + start), 1 / (least + start))


def prefill(cost: Cost, machine: Machine, n: int, zeros: float | None) -> float | None:
    """Estimated prefill of `n` tokens, t/s; None without F."""
    if not machine.flops:
        return None
    read = cost.weight_bytes * -(-n // 512) / machine.read_bytes_s
    return n / max(read, cost.prefill_flops(n, zeros) / machine.flops)


def against_measured(result: Result, cost: Cost, machine: Machine) -> list[dict[str, Any]]:
    """The formula for this machine, beside what was measured on it.

    Returns:
        For each point: name, kind, depth, zeros, estimate_tps, measured_tps, ratio (estimate by
        measured) and formula.
    """
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
                {
                    "name": point.name, "kind": point.kind, "depth": point.depth,
                    "zeros": zeros, "estimate_tps": guess, "measured_tps": measured,
                    "ratio": guess / measured, "formula": formula(machine, point.kind),
                }
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
) -> dict[str, Any]:
    """The estimate for a device, as --json shows it.

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
    machine = machine.like(here)
    shares = [point.skipped_rows for point in result.points]
    zeros = next((share for share in reversed(shares) if share is not None), None)
    guesses = [(n, prefill(cost, machine, n, zeros)) for n in prompts]
    return {
        "schema": SCHEMA,
        "estimate": True,
        "device": profile.name,
        "model": as_json(result.model),
        "machine": vars(machine).copy(),
        "zeros": zeros,
        "applies": cost.decode_bytes(0, zeros) >= SMALLEST,
        "decode": [
            {
                "depth": depth,
                "estimate_tps": decode(cost, machine, depth, zeros).tps,
                "bytes_a_token": cost.decode_bytes(depth, zeros),
                "formula": formula(machine, "decode"),
            }
            for depth in depths
        ],
        "prefill": [
            {"n_tokens": n, "estimate_tps": tps, "formula": FORMULA_PREFILL}
            for n, tps in guesses
            if tps is not None
        ],
        "check": {
            "machine": vars(here).copy(),
            "points": against_measured(result, cost, here),
        },
    }
