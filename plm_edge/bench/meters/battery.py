"""Power from a battery that is being emptied: phones and laptops."""

from __future__ import annotations

from plm_edge.bench.meters.host import Host, number
from plm_edge.bench.meters.meter import Finding, Meter


class Battery(Meter):
    """current_now x voltage_now, or power_now; only while it discharges: with a charger, the
    figure is not what the device takes. Phones differ in the current's sign, so it is dropped."""

    quantity = "power"
    covers = "whole device, from the battery"

    def __init__(self, host: Host, folder: str) -> None:
        name = folder.rsplit("/", 1)[-1]
        super().__init__(name, f"{folder}/current_now x voltage_now")
        self._host = host
        self._folder = folder
        if host.read(f"{folder}/current_now") is None:
            self.source = f"{folder}/power_now"

    @classmethod
    def find(cls, host: Host) -> Finding:
        found = Finding()
        for folder in host.glob("/sys/class/power_supply/*"):
            if host.read(f"{folder}/type") != "Battery":
                continue
            status = host.read(f"{folder}/status")
            meter = cls(host, folder)
            if status != "Discharging":
                found.lacking.append(
                    ("battery", f"{meter.name} is {status or 'silent'}, not discharging: unplug it")
                )
            elif meter.read() is None:
                found.lacking.append(("battery", f"{meter.source} cannot be read"))
            else:
                found.meters.append(meter)
        if not found.meters and not found.lacking:
            found.lacking.append(("battery", "no battery in /sys/class/power_supply"))
        return found

    def read(self) -> float | None:
        if self._host.read(f"{self._folder}/status") != "Discharging":
            return None
        current = number(self._host.read(f"{self._folder}/current_now"))
        voltage = number(self._host.read(f"{self._folder}/voltage_now"))
        if current is not None and voltage is not None:
            return abs(current) * voltage / 1e12
        power = number(self._host.read(f"{self._folder}/power_now"))
        return None if power is None else abs(power) / 1e6
