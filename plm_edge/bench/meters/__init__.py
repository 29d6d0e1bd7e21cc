"""Small classes that read one thing each of a machine, with its unit and its source."""

from __future__ import annotations

from plm_edge.bench.meters.host import Host
from plm_edge.bench.meters.meter import Finding


def find(host: Host) -> Finding:
    """All meters that this machine has, and why it lacks the others. Asks, never guesses."""
    from plm_edge.bench.meters import battery, boards, counters, nvidia, thermal

    families = (
        boards.Pi5Pmic, boards.JetsonRails, battery.Battery, counters.Rapl,
        counters.HwmonPower, nvidia.NvidiaEnergy,
        thermal.Zone, thermal.HwmonTemperature, thermal.NvidiaTemperature, thermal.CpuFrequency,
        thermal.PiThrottled, thermal.IntelThrottled, thermal.CoolingState,
    )  # fmt: skip
    found = Finding()
    for family in families:
        found.add(family.find(host))
    return found
