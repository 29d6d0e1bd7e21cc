"""What the estimate knows of a machine: the bytes it reads a second, its operations a second.

F = cores · clock · lanes · 4: float32 operations a second of cores with two vector units, each a
multiplication and an addition a lane and clock. It is a rough figure on purpose, of what every
profile tells.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plm_edge.bench.analyse.products import Product
from plm_edge.bench.cycles import budget, table
from plm_edge.bench.kernels import Rates
from plm_edge.devices.profiles.profile import Profile

HERE = "host"  # the profile of this machine
MEASURED = "measured, in caches"
BY_SHARE = "the share of F that kernels reach here"
_LANES = (("avx512f", 16), ("avx2", 8), ("asimd", 4), ("sse2", 4))


@dataclass(frozen=True)
class Machine:
    """What is known of a machine: bytes read a second, operations a second (None: not known),
    where both come from, and whether the bytes were reached by a program or are the sheet's.

    `kernels`: operations a second by type of weights, where `flops` is not what bounds it; of a
    cache "attention TYPE", and other kernels by the names of `bench/cycles/kernels.py`, where they
    are known apart.
    `kernels_source`: where these come from.
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
    kernels_source: str = ""

    def rate(self, *kinds: str) -> float:
        """Operations a second of the first of these kernels that is known, else of F."""
        assert self.flops
        return next((self.kernels[kind] for kind in kinds if kind in self.kernels), self.flops)

    def seconds_of(self, product: Product, left_out: float) -> float:
        """To compute a product, but for a share of it."""
        if product.within and not any(kernel in self.kernels for kernel in product.kernels):
            return 0.0
        return 2 * product.n * (1 - left_out) / self.rate(*product.kernels)

    def like(self, here: Machine) -> Machine:
        """This machine. Kernels of which nothing is known reach the share of F that they reach
        `here`."""
        shares: dict[str, float] = {}
        if self.flops and here.flops:
            shares = {kind: ops * self.flops / here.flops for kind, ops in here.kernels.items()}
        slower = here.clock / self.clock if here.clock and self.clock else 1.0
        return replace(
            self, kernels={**shares, **self.kernels}, node_s=here.node_s * slower,
            kernels_source=self.kernels_source or BY_SHARE,
        )  # fmt: skip

    def running(self, products: Collection[Product], cache: str) -> Machine:
        """This machine with what a model runs of its kernels: some `products`, and a `cache`."""
        run = [one.kernels for one in products]
        run.append((f"attention {cache}", "attention"))
        used = {next((name for name in names if name in self.kernels), "") for names in run}
        return replace(self, kernels={k: ops for k, ops in self.kernels.items() if k in used})


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
    flops: float | None = None
    clocks: list[float] = []
    taken = 0
    for cluster, cores in budget.computing(profile):
        of_these = flops_of(profile.features, cores, cluster.clock.value if cluster.clock else None)
        if of_these:
            flops, taken = (flops or 0) + of_these, taken + cores
            clocks += [cluster.clock.value] if cluster.clock else []
    kernels = table.operations(profile)
    of_cores = ", ".join(sorted({cluster.core for cluster, _ in budget.computing(profile)}))
    by_cycles = f"cycles by LLVM's model of {of_cores}, itself an estimate" if kernels else ""
    how = f"{taken} cores · clock · lanes · 4" if flops else "the profile names no clock"
    for name, reached in (("reached", True), ("bandwidth", False)):
        found = profile.measure("memory", name)
        if found and found.unit == "GB/s":
            source = profile.sources.get(found.source, found.source)
            return Machine(
                profile.name, found.value * 1e9, flops, source, reached, how, kernels,
                clock=min(clocks, default=None), kernels_source=by_cycles,
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
        MEASURED,
    )
