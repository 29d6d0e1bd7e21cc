"""Temperature, clocks, and whether the machine slows itself down."""

from __future__ import annotations

from plm_edge.bench.meters.host import Host, number
from plm_edge.bench.meters.meter import Finding, Meter
from plm_edge.bench.meters.nvidia import query
from plm_edge.devices import throttling

_CPUS = "/sys/devices/system/cpu/cpu[0-9]*"


class Zone(Meter):
    """A thermal zone of the kernel, in thousandths of a degree."""

    quantity = "temperature"

    def __init__(self, host: Host, folder: str, kind: str) -> None:
        super().__init__(f"{kind} ({folder.rsplit('thermal_zone', 1)[-1]})", f"{folder}/temp")
        self._host = host
        self.covers = kind

    @classmethod
    def find(cls, host: Host) -> Finding:
        found = Finding()
        for folder in host.glob("/sys/class/thermal/thermal_zone*"):
            if number(host.read(f"{folder}/temp")) is not None:
                found.meters.append(cls(host, folder, host.read(f"{folder}/type") or "zone"))
        if not found.meters:
            found.lacking.append(("thermal zones", "none in /sys/class/thermal"))
        return found

    def read(self) -> float | None:
        value = number(self._host.read(self.source))
        return None if value is None else value / 1000


class HwmonTemperature(Zone):
    """A CPU's own sensor in hwmon (coretemp, k10temp), where no zone shows it."""

    _CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")

    def __init__(self, host: Host, path: str, name: str) -> None:
        Meter.__init__(self, name, path)
        self._host = host
        self.covers = name

    @classmethod
    def find(cls, host: Host) -> Finding:
        found = Finding()
        for folder in host.glob("/sys/class/hwmon/hwmon*"):
            chip = host.read(f"{folder}/name") or ""
            if chip not in cls._CHIPS:
                continue
            for path in host.glob(f"{folder}/temp*_input"):
                label = host.read(path.removesuffix("_input") + "_label") or chip
                if number(host.read(path)) is not None:
                    found.meters.append(cls(host, path, label))
        return found


class NvidiaTemperature(Meter):
    """The hottest GPU."""

    quantity = "temperature"
    covers = "hottest GPU"

    def __init__(self, host: Host) -> None:
        super().__init__("nvidia", "nvidia-smi --query-gpu=temperature.gpu")
        self._host = host

    @classmethod
    def find(cls, host: Host) -> Finding:
        meter = cls(host)
        return Finding([meter] if meter.read() is not None else [])

    def read(self) -> float | None:
        known = [value for value in query(self._host, "temperature.gpu") if value is not None]
        return max(known, default=None)


class CpuFrequency(Meter):
    """Mean of the cores' clocks, from cpufreq (kHz)."""

    quantity = "frequency"
    covers = "mean of all cores"

    def __init__(self, host: Host, paths: list[str]) -> None:
        super().__init__("cpufreq", f"{_CPUS}/cpufreq/scaling_cur_freq")
        self._host = host
        self._paths = paths

    @classmethod
    def find(cls, host: Host) -> Finding:
        paths = host.glob(f"{_CPUS}/cpufreq/scaling_cur_freq")
        if not paths:
            return Finding([], [("CPU clock", "no cpufreq in /sys/devices/system/cpu")])
        return Finding([cls(host, paths)])

    def read(self) -> float | None:
        values = [number(self._host.read(path)) for path in self._paths]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) / 1000 if known else None


class PiThrottled(Meter):
    """vcgencmd get_throttled, bits 0 to 3: under-voltage, capped, throttled, soft limit."""

    quantity = "throttled"
    covers = "under-voltage, clock capped, throttled, soft temperature limit"

    def __init__(self, host: Host) -> None:
        super().__init__("get_throttled", throttling.PI_COMMAND)
        self._host = host

    @classmethod
    def find(cls, host: Host) -> Finding:
        meter = cls(host)
        return Finding([meter] if meter.read() is not None else [])

    def read(self) -> float | None:
        reasons = throttling.pi_reasons(self._host.run(*self.source.split()) or "")
        return None if reasons is None else float(bool(reasons))


class IntelThrottled(Meter):
    """The kernel's counts of thermal throttling: 1 when one has grown since the last reading."""

    quantity = "throttled"
    covers = "thermal events of the cores"

    def __init__(self, host: Host, paths: list[str]) -> None:
        super().__init__("thermal_throttle", f"{_CPUS}/thermal_throttle/core_throttle_count")
        self._host = host
        self._paths = paths
        self._last = self._count()

    @classmethod
    def find(cls, host: Host) -> Finding:
        paths = host.glob(f"{_CPUS}/thermal_throttle/core_throttle_count")
        return Finding([cls(host, paths)] if paths else [])

    def _count(self) -> float:
        return sum(number(self._host.read(path)) or 0 for path in self._paths)

    def read(self) -> float | None:
        before, self._last = self._last, self._count()
        return float(self._last > before)


class CoolingState(Meter):
    """Cooling devices that lower the CPU's clock: 1 while one is above its state 0."""

    quantity = "throttled"
    covers = "the kernel's cooling of the CPU"

    def __init__(self, host: Host, paths: list[str]) -> None:
        super().__init__("cooling", "/sys/class/thermal/cooling_device*/cur_state")
        self._host = host
        self._paths = paths

    @classmethod
    def find(cls, host: Host) -> Finding:
        paths = []
        for folder in host.glob("/sys/class/thermal/cooling_device*"):
            if throttling.cools_the_cpu(host.read(f"{folder}/type") or ""):
                paths.append(f"{folder}/cur_state")
        if not paths:
            return Finding([], [("throttling", "no cooling device of the CPU")])
        return Finding([cls(host, paths)])

    def read(self) -> float | None:
        states = [number(self._host.read(path)) for path in self._paths]
        known = [state for state in states if state is not None]
        return float(any(known)) if known else None
