"""Cycles of a multiplication by core and kernel, as `python -m benchmarks.arm_cycles` wrote them.

cycles.json beside this file has them: {"cores": {core: {kernel: cycles}}}, where a kernel is named
as in `kernels.py`. They are estimates.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

from plm_edge.bench.cycles import budget
from plm_edge.devices.profiles.profile import Profile

FILE = Path(__file__).with_name("cycles.json")


@functools.cache
def known() -> dict[str, dict[str, float]]:
    """Cycles a multiplication: by core, then by kernel."""
    found: dict[str, dict[str, float]] = json.loads(FILE.read_text(encoding="utf-8"))["cores"]
    return found


def operations(
    profile: Profile, cycles: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, float]:
    """Operations a second, two each multiplication, of all cores that compute by default: by
    kernel. Empty where a core or its clock is not known.

    Args:
        cycles: as `known`, which None stands for.
    """
    table = known() if cycles is None else cycles
    cores = budget.computing(profile)
    if not cores or any(one.clock is None or one.core not in table for one, _ in cores):
        return {}
    shared = set.intersection(*(set(table[one.core]) for one, _ in cores))
    return {
        kernel: sum(
            2 * count * one.clock.value * 1e9 / table[one.core][kernel]
            for one, count in cores
            if one.clock
        )
        for kernel in sorted(shared)
    }
