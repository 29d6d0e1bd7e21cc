"""Power meters that boards bring: the Raspberry Pi 5's PMIC, the Jetsons' INA3221."""

from __future__ import annotations

import re

from plm_edge.bench.meters.host import Host, number
from plm_edge.bench.meters.meter import Finding, Meter

_ADC = re.compile(r"(\w+)_([AV]) (?:current|volt)\(\d+\)=([\d.]+)[AV]")


class Pi5Pmic(Meter):
    """Sum over the PMIC's rails of current times voltage; without what hangs on the 5 V rail."""

    quantity = "power"
    covers = "the PMIC's rails, without USB and what else hangs on 5 V"

    def __init__(self, host: Host) -> None:
        super().__init__("pmic", "vcgencmd pmic_read_adc")
        self._host = host

    @classmethod
    def find(cls, host: Host) -> Finding:
        meter = cls(host)
        if meter.read() is None:
            return Finding([], [("Raspberry Pi 5 PMIC", "no `vcgencmd pmic_read_adc`")])
        return Finding([meter])

    def read(self) -> float | None:
        text = self._host.run("vcgencmd", "pmic_read_adc")
        rails: dict[str, dict[str, float]] = {}
        for rail, kind, value in _ADC.findall(text or ""):
            rails.setdefault(rail, {})[kind] = float(value)
        powers = [both["A"] * both["V"] for both in rails.values() if len(both) == 2]
        return sum(powers) if powers else None


class JetsonRails(Meter):
    """An INA3221's channels in hwmon: millivolts times milliamperes. The board's input where it
    is measured, else the sum of the rails."""

    quantity = "power"
    _INPUTS = ("VDD_IN", "POM_5V_IN")

    def __init__(self, host: Host, channels: list[tuple[str, str, str]]) -> None:
        self._host = host
        self._channels = channels  # (label, file of mV, file of mA)
        super().__init__("ina3221", ", ".join(f"{volts} x {amps}" for _, volts, amps in channels))
        self.covers = " + ".join(label for label, _, _ in channels)

    @classmethod
    def find(cls, host: Host) -> Finding:
        channels = []
        for folder in host.glob("/sys/class/hwmon/hwmon*"):
            if host.read(f"{folder}/name") != "ina3221":
                continue
            for path in host.glob(f"{folder}/in*_label"):
                at = re.search(r"in(\d+)_label$", path)
                label = host.read(path) or ""
                amps = f"{folder}/curr{at[1]}_input" if at else ""
                # "sum of shunt voltages" is a channel of the driver's own, in another unit.
                if at and label and "sum" not in label and host.read(amps) is not None:
                    channels.append((label, f"{folder}/in{at[1]}_input", amps))
        whole = [channel for channel in channels if channel[0] in cls._INPUTS]
        chosen = whole[:1] or channels
        if not chosen:
            return Finding([], [("Jetson INA", "no ina3221 in /sys/class/hwmon")])
        return Finding([cls(host, chosen)])

    def read(self) -> float | None:
        total = 0.0
        for _, volts, amps in self._channels:
            millivolts, milliamperes = (
                number(self._host.read(volts)),
                number(self._host.read(amps)),
            )
            if millivolts is None or milliamperes is None:
                return None
            total += millivolts * milliamperes / 1e6
        return total
