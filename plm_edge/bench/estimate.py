"""An estimate of speed on a machine that is not here: a roofline, with its check on this one.

    r = (W - D·z + n·k) / B            seconds to read what a token needs
    c = 2·(P - P_D·z + a·n) / F        seconds to compute it
    t/s = sqrt(1 / (r + c) · 1 / max(r, c)), between no overlap of the two and a full one

W bytes of weights a token reads, D those of W_down, z the share of its rows that are zero, n cached
tokens, k bytes of each in the cache, P and P_D the same in parameters, a multiplications for each
cached token, B bytes a second that the machine reads.

F = cores · clock · lanes · 4: float32 operations a second of cores with two vector units, each a
multiplication and an addition a lane and clock. It is a rough figure on purpose, of what every
profile tells; decode depends on it little. Prefill of m tokens is m / max(r, m·c).

The check takes the bandwidth that the tool measured here and F by the same rule, and puts the
result beside a run. What starting an operation costs is left out: a model that fits the CPU's
caches is far slower than this.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from plm_edge.bench.cost import Cost
from plm_edge.errors import PlmEdgeError
from plm_edge.fleet.profile import Profile

SCHEMA = "plm-edge/bench-estimate/2"
FORMULA = "t/s = sqrt(1/(r+c) · 1/max(r,c)), r = bytes/B, c = operations/F"
FORMULA_READ = "t/s = 1/r, r = bytes/B"
FORMULA_PREFILL = "t/s = m/max(r, m·c), r = bytes/B, c = operations/F"
# Below so many bytes a token a model lies in caches, and what bounds it is not in the formula.
SMALLEST = 128 << 20
_LANES = (("avx512f", 16), ("avx2", 8), ("asimd", 4), ("sse2", 4))


@dataclass(frozen=True)
class Machine:
    """What is known of a machine: bytes read a second, operations a second (None: not known),
    where both come from, and whether the bytes were reached by a program or are the sheet's."""

    name: str
    read_bytes_s: float
    flops: float | None
    source: str
    reached: bool
    flops_source: str = ""


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
    taken = 0
    for cluster in profile.clusters:
        cores = min(cluster.count, threads - taken) if threads else cluster.count
        of_these = flops_of(profile.features, cores, cluster.clock.value if cluster.clock else None)
        if cores > 0 and of_these:
            flops, taken = (flops or 0) + of_these, taken + cores
    how = f"{taken} cores · clock · lanes · 4" if flops else "the profile names no clock"
    for name, reached in (("reached", True), ("bandwidth", False)):
        found = profile.measure("memory", name)
        if found and found.unit == "GB/s":
            source = profile.sources.get(found.source, found.source)
            return Machine(profile.name, found.value * 1e9, flops, source, reached, how)
    return None


def of_here(capability: dict[str, Any], features: Collection[str], clock: float | None) -> Machine:
    """This machine: its bandwidth as `capability.measure` found it, F by the profile's rule.

    Args:
        clock: GHz that the cores show.
    """
    threads = capability["threads"]
    return Machine(
        "this machine", capability["read_bytes_s"], flops_of(features, threads, clock),
        f"measured: {capability['read_how']}", True,
        f"{threads} cores · {clock:.1f} GHz · lanes · 4" if clock else "no clock is shown here",
    )  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """Tokens a second: the estimate, and the least and most that the formula allows."""

    tps: float
    low: float
    high: float


def decode(cost: Cost, machine: Machine, depth: float, zeros: float | None) -> Estimate:
    """Estimated decode with `depth` tokens in the cache."""
    read = cost.decode_bytes(depth, zeros) / machine.read_bytes_s
    if not machine.flops:
        return Estimate(1 / read, 0.0, 1 / read)
    compute = cost.decode_flops(depth, zeros) / machine.flops
    low, high = 1 / (read + compute), 1 / max(read, compute)
    return Estimate(math.sqrt(low * high), low, high)


def prefill(cost: Cost, machine: Machine, n: int, zeros: float | None) -> float | None:
    """Estimated prefill of `n` tokens, t/s; None without F."""
    if not machine.flops:
        return None
    read = cost.weight_bytes * -(-n // 512) / machine.read_bytes_s
    return n / max(read, cost.prefill_flops(n, zeros) / machine.flops)


def against_measured(result: dict[str, Any], cost: Cost, machine: Machine) -> list[dict[str, Any]]:
    """The formula for this machine, beside what was measured on it.

    Returns:
        For each point: name, kind, depth, zeros, estimate_tps, measured_tps, ratio (estimate by
        measured) and formula.
    """
    made = []
    for point in result["points"]:
        if point["n_seq"] != 1 or "tps" not in point:
            continue
        guess: float | None
        if point["kind"] == "decode":
            depth = point["depth"] + point["n_tokens"] / 2
            guess = decode(cost, machine, depth, point["zeros"]).tps
        else:
            guess = prefill(cost, machine, point["n_tokens"], point["zeros"])
        if guess is not None:
            measured = point["tps"]["median"]
            made.append(
                {
                    "name": point["name"], "kind": point["kind"], "depth": point["depth"],
                    "zeros": point["zeros"], "estimate_tps": guess, "measured_tps": measured,
                    "ratio": guess / measured, "formula": formula(machine, point["kind"]),
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
    result: dict[str, Any],
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
    machine = of_profile(profile)
    if machine is None:
        raise PlmEdgeError(
            f"{profile.name} cannot be estimated",
            "its profile names no memory bandwidth",
            "add [memory] bandwidth or reached, with its source, to a profile of your own",
        )
    shares = [point["zeros"] for point in result["points"] if point.get("zeros") is not None]
    zeros = shares[-1] if shares else None
    guesses = [(n, prefill(cost, machine, n, zeros)) for n in prompts]
    return {
        "schema": SCHEMA,
        "estimate": True,
        "device": profile.name,
        "model": result["model"],
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
            "capability": result["capability"],
            "points": against_measured(result, cost, here),
        },
    }
