"""Which cores are big: the same rule for this machine and for devices."""

from __future__ import annotations

import pytest

from plm_edge.devices.profiles import profile
from plm_edge.machine import cores
from plm_edge.machine.cores import Core


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([Core("Cortex-A76", 2.4)] * 4, "++++"),
        ([Core("", 2.8), Core("", 1.63)], "+-"),
        ([Core("", 2.8), Core("", 1.75)], "++"),
        ([Core("", 2.8, 1024), Core("", 2.7, 430)], "+-"),  # the kernel knows better than the clock
        ([Core("", 3.0, 1024), Core("", 1.7, 520)], "++"),
        ([Core("", 2.8, 1024), Core("", 1.2, 1024)], "+-"),  # equal capacities tell nothing
        ([Core("Cortex-X4", 3.3), Core("Cortex-A520", 2.3)], "+-"),  # 70 % of the clock, and little
        ([Core("Cortex-A55", 1.8)] * 2, "++"),  # nothing but little cores
        ([Core("Apple M3 performance core"), Core("Apple M3 efficiency core")], "+-"),
        ([Core("x"), Core("y", 2.0)], "++"),
        ([], ""),
    ],
)
def test_big(known: list[Core], expected: str) -> None:
    assert "".join("-+"[is_big] for is_big in cores.big(known)) == expected


@pytest.mark.parametrize("name", [*profile.names()])
def test_profiles_take_a_thread_a_big_core(name: str) -> None:
    found = profile.find(name)
    clusters = found.clusters
    known = [Core(one.core, one.clock.value if one.clock else None) for one in clusters]
    big = zip(clusters, cores.big(known), strict=True)
    count = sum(one.count for one, is_big in big if is_big)
    assert not clusters or found.section("defaults")["threads"] == count


def test_kinds() -> None:
    assert cores.kind({"CPU implementer": "0x41", "CPU part": "0xd0b"}) == "Cortex-A76"
    assert cores.kind({"CPU implementer": "0x51", "CPU part": "0x001"}).startswith("implementer")
    assert cores.kind({"model name": "AMD EPYC"}) == "AMD EPYC"


def test_here() -> None:
    assert 1 <= len(cores.allowed()) <= cores.logical()
    physical = cores.physical()
    assert physical is None or 1 <= physical <= cores.logical()
