"""An estimate of decode on a machine that is not here: a roofline, with its check on this one.

    r = (W - D·z + n·k) / B    seconds to read what a token needs
    c = 2·(P - P_D·z + a·n) / F    seconds to compute it
    t/s = sqrt(1 / (r + c) · 1 / max(r, c)), between no overlap of the two and a full one

W bytes of weights a token reads, D those of W_down, z the share of its rows that are zero, n cached
tokens, k bytes of each in the cache, P and P_D the same in parameters, a multiplications for each
cached token, B bytes a second that the machine reads, F float32 operations a second. Without F (no
profile has one) the estimate is 1 / r, and B is what programs reached, or the sheet's: then it is
an upper bound. Overhead of starting operations is left out: for small models it is too high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from plm_edge.bench.cost import Cost
from plm_edge.errors import PlmEdgeError
from plm_edge.fleet.profile import Profile

SCHEMA = "plm-edge/bench-estimate/1"
FORMULA = "t/s = sqrt(1/(r + c) · 1/max(r, c)); r: bytes a token / B, c: operations a token / F"
FORMULA_READ = "t/s = B / bytes a token; bytes = W - D·z + n·k"


@dataclass(frozen=True)
class Machine:
    """What is known of a machine: bytes read a second, operations a second (None: not known),
    where both come from, and whether the bytes were reached by a program or are the sheet's."""

    name: str
    read_bytes_s: float
    flops: float | None
    source: str
    reached: bool


def of_profile(profile: Profile) -> Machine | None:
    """From a device's profile: the bandwidth that programs reached, else the sheet's; None
    without either."""
    for name, reached in (("reached", True), ("bandwidth", False)):
        found = profile.measure("memory", name)
        if found and found.unit == "GB/s":
            source = profile.sources.get(found.source, found.source)
            return Machine(profile.name, found.value * 1e9, None, source, reached)
    return None


def of_here(capability: dict[str, Any]) -> Machine:
    """This machine, as `capability.measure` found it."""
    how = str(capability["read_how"])
    return Machine("this machine", capability["read_bytes_s"], capability["flops"], how, True)


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


def against_measured(result: dict[str, Any], cost: Cost) -> list[dict[str, Any]]:
    """The formula on this machine, beside what was measured here: name, estimate, measured,
    ratio (estimate by measured)."""
    machine = of_here(result["capability"])
    made = []
    for point in result["points"]:
        if point["kind"] == "decode" and point["n_seq"] == 1 and "tps" in point:
            depth = point["depth"] + point["n_tokens"] / 2
            guess = decode(cost, machine, depth, point["zeros"]).tps
            measured = point["tps"]["median"]
            made.append(
                {
                    "name": point["name"],
                    "depth": point["depth"],
                    "zeros": point["zeros"],
                    "estimate_tps": guess,
                    "measured_tps": measured,
                    "ratio": guess / measured,
                }
            )
    return made


def of_device(
    profile: Profile, cost: Cost, result: dict[str, Any], depths: tuple[int, ...]
) -> dict[str, Any]:
    """The estimate for a device, as --json shows it.

    Args:
        result: a run of the same model here: its zeros are the model's, not the machine's, and
            the check of the formula is made with it.

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
    return {
        "schema": SCHEMA,
        "estimate": True,
        "device": profile.name,
        "formula": FORMULA_READ,
        "machine": vars(machine).copy(),
        "zeros": zeros,
        "decode": [
            {
                "depth": depth,
                "estimate_tps": decode(cost, machine, depth, zeros).tps,
                "bytes_a_token": cost.decode_bytes(depth, zeros),
            }
            for depth in depths
        ],
        "prefill": None,
        "check": {"formula": FORMULA, "points": against_measured(result, cost)},
    }
