"""How many cycles a core may spend on a byte before memory waits for it."""

from __future__ import annotations

from dataclasses import dataclass

from plm_edge.devices.profiles.profile import Cluster, Profile


@dataclass(frozen=True)
class Budget:
    """Cycles a byte and core, and how they follow from a profile."""

    cycles: float
    how: str


def computing(profile: Profile) -> list[tuple[Cluster, int]]:
    """The clusters that compute by default, with how many of their cores: the fastest first, as
    many as the profile's threads."""
    threads = int(profile.section("defaults").get("threads", 0))
    found, taken = [], 0
    for cluster in profile.clusters:
        cores = min(cluster.count, threads - taken) if threads else cluster.count
        if cores > 0:
            found.append((cluster, cores))
            taken += cores
    return found


def of(profile: Profile) -> Budget | None:
    """All cores' cycles a second by the bytes a second that memory delivers: those that programs
    reached, else the sheet's. None where the profile lacks a clock or a bandwidth."""
    cores = computing(profile)
    parts, hertz = [], 0.0
    for cluster, count in cores:
        if cluster.clock is None:
            return None
        hertz += count * cluster.clock.value * 1e9
        parts.append(f"{count} x {cluster.clock.value:g} GHz")
    for name, kind in (("reached", "reached"), ("bandwidth", "by the sheet")):
        measure = profile.measure("memory", name)
        if cores and measure and measure.unit == "GB/s":
            how = f"{' + '.join(parts)} / {measure.value:g} GB/s {kind}"
            return Budget(hertz / (measure.value * 1e9), how)
    return None
