"""Energy that the kernel counts: RAPL (Intel, AMD) and hwmon's power sensors."""

from __future__ import annotations

from plm_edge.bench.meters.host import Host, number
from plm_edge.bench.meters.meter import Finding, Meter

_RAPL = "/sys/class/powercap"


class Rapl(Meter):
    """Running Average Power Limit: energy of a CPU package, a counter that wraps around."""

    quantity = "energy"
    covers = "CPU package"

    def __init__(self, host: Host, zone: str, name: str) -> None:
        super().__init__(name, f"{zone}/energy_uj")
        self._host = host
        self._range = number(host.read(f"{zone}/max_energy_range_uj")) or 0.0
        self._last: float | None = None
        self._turns = 0

    @classmethod
    def find(cls, host: Host) -> Finding:
        found = Finding()
        for zone in host.glob(f"{_RAPL}/intel-rapl:[0-9]*"):
            name = host.read(f"{zone}/name") or ""
            # Zones below a package ("intel-rapl:0:1") are parts of it, psys overlaps with it.
            if zone.rsplit("/", 1)[-1].count(":") != 1 or not name.startswith("package"):
                continue
            if host.read(f"{zone}/energy_uj") is None:
                found.lacking.append(("RAPL", f"{zone}/energy_uj is readable for root alone"))
            else:
                found.meters.append(cls(host, zone, name))
        if not found.meters and not found.lacking:
            found.lacking.append(("RAPL", f"no package in {_RAPL}"))
        return found

    def read(self) -> float | None:
        value = number(self._host.read(self.source))
        if value is None:
            return None
        if self._last is not None and value < self._last:
            self._turns += 1
        self._last = value
        return (value + self._turns * self._range) / 1e6


class HwmonPower(Meter):
    """A power sensor of the hwmon class, in microwatts. Rails of boards have a class apart."""

    quantity = "power"

    def __init__(self, host: Host, path: str, name: str) -> None:
        super().__init__(name, path)
        self._host = host
        self.covers = f"sensor {name}"

    @classmethod
    def find(cls, host: Host) -> Finding:
        found = Finding()
        for folder in host.glob("/sys/class/hwmon/hwmon*"):
            chip = host.read(f"{folder}/name") or folder.rsplit("/", 1)[-1]
            paths = host.glob(f"{folder}/power*_average") or host.glob(f"{folder}/power*_input")
            for path in paths:
                label = host.read(path.rsplit("_", 1)[0] + "_label")
                if number(host.read(path)) is not None:
                    found.meters.append(cls(host, path, f"{chip} {label}" if label else chip))
        if not found.meters:
            found.lacking.append(("hwmon", "no power sensor in /sys/class/hwmon"))
        return found

    def read(self) -> float | None:
        value = number(self._host.read(self.source))
        return None if value is None else value / 1e6
