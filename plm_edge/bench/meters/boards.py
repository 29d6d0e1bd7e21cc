"""Power meters that boards bring: the Raspberry Pi 5's PMIC, the Jetsons' INA3221."""

from __future__ import annotations

import re

from plm_edge.bench.meters.host import Host, number
from plm_edge.bench.meters.meter import Finding, Meter

_ADC = re.compile(r"(\w+)_([AV]) (?:current|volt)\(\d+\)=([\d.]+)[AV]")


# Rails of a Raspberry Pi 5's PMIC whose power is shown apart.
_RAILS = {"pmic-cpu": ("VDD_CORE",), "pmic-dram": ("DDR_VDD2", "DDR_VDDQ")}


class Pi5Pmic(Meter):
    """Sum over rails of the PMIC of current times voltage: of all, or of some of them."""

    quantity = "power"

    def __init__(self, host: Host, name: str = "pmic", rails: tuple[str, ...] = ()) -> None:
        super().__init__(name, "vcgencmd pmic_read_adc")
        all_of_them = "the PMIC's rails, without USB and what else hangs on 5 V"
        self.covers = f"the rails {' + '.join(rails)}" if rails else all_of_them
        self._host, self._rails = host, rails

    @classmethod
    def find(cls, host: Host) -> Finding:
        found = [cls(host), *(cls(host, name, rails) for name, rails in _RAILS.items())]
        there: list[Meter] = [meter for meter in found if meter.read() is not None]
        lacking = [("Raspberry Pi 5 PMIC", "no `vcgencmd pmic_read_adc`")]
        return Finding(there, [] if there else lacking)

    def read(self) -> float | None:
        text = self._host.run("vcgencmd", "pmic_read_adc")
        rails: dict[str, dict[str, float]] = {}
        for rail, kind, value in _ADC.findall(text or ""):
            rails.setdefault(rail, {})[kind] = float(value)
        powers = {name: both["A"] * both["V"] for name, both in rails.items() if len(both) == 2}
        wanted = self._rails or tuple(powers)
        found = [powers[name] for name in wanted if name in powers]
        return sum(found) if found and len(found) == len(wanted) else None


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
