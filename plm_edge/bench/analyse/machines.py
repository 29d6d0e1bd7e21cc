"""What the estimate knows of a machine: the bytes it reads a second, its operations a second.

F = cores · clock · lanes · 4: float32 operations a second of cores with two vector units, each a
multiplication and an addition a lane and clock. It is a rough figure on purpose, of what every
profile tells.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plm_edge.bench.kernels import Rates
from plm_edge.devices.profiles.profile import Profile

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


def of_here(measured: Sequence[Rates], features: Collection[str], clock: float | None) -> Machine:
    """This machine: as `kernels.measure` found it, the median of several times; F by the rule
    that holds for profiles.

    Args:
        clock: GHz that the cores show.
    """
    first = measured[0]
    threads = first.threads
    rates = [rate for one in measured for rate in one.read_samples]
    return Machine(
        "this machine",
        statistics.median(rates),
        flops_of(features, threads, clock),
        f"measured: {first.read_how} of {len(rates)} rounds, "
        f"{min(rates) / 1e9:.1f} to {max(rates) / 1e9:.1f} GB/s",
        True,
        f"{threads} cores · {clock:.1f} GHz · lanes · 4" if clock else "no clock is shown here",
        {
            kind: statistics.median(one.types[kind].ops_s for one in measured)
            for kind in first.types
        },
        statistics.median(one.node_s for one in measured),
        clock,
    )
