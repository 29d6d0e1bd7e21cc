"""NVIDIA GPUs: by NVML here, whose counter of energy misses nothing between two readings; on other
machines, and where nothing is counted, by nvidia-smi, NVML's own program."""

from __future__ import annotations

from plm_edge.bench.meters.host import Host, number
from plm_edge.bench.meters.meter import Finding, Meter
from plm_edge.machine.nvml import Nvml, NvmlMissing

NVIDIA = "nvidia"  # the name of a meter of all boards


def query(host: Host, field: str) -> list[float | None]:
    """A field of every GPU; empty without any."""
    said = host.run("nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits")
    return [number(line.strip()) for line in (said or "").splitlines() if line.strip()]


class NvidiaEnergy(Meter):
    """What NVML has counted of all GPUs together, since Volta."""

    quantity = "energy"
    covers = "GPU boards"

    def __init__(self, opened: Nvml) -> None:
        super().__init__(NVIDIA, "NVML, nvmlDeviceGetTotalEnergyConsumption")
        self._nvml = opened

    @classmethod
    def find(cls, host: Host) -> Finding:
        """The counter, else power.draw."""
        if host.here:
            try:
                meter = cls(Nvml())
            except NvmlMissing:
                return NvidiaPower.find(host)
            if meter.read() is not None:
                return Finding([meter])
        return NvidiaPower.find(host)

    def read(self) -> float | None:
        return self._nvml.energy()


class NvidiaPower(Meter):
    """power.draw of all GPUs together."""

    quantity = "power"
    covers = "GPU boards"

    def __init__(self, host: Host) -> None:
        super().__init__(NVIDIA, "nvidia-smi --query-gpu=power.draw")
        self._host = host

    @classmethod
    def find(cls, host: Host) -> Finding:
        meter = cls(host)
        if meter.read() is None:
            return Finding([], [("NVML", "nvidia-smi tells no GPU's power")])
        return Finding([meter])

    def read(self) -> float | None:
        known = [value for value in query(self._host, "power.draw") if value is not None]
        return sum(known) if known else None
