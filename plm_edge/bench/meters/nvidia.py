"""NVIDIA GPUs, by nvidia-smi: NVML's own program, on this machine and on others."""

from __future__ import annotations

from plm_edge.bench.meters.host import Host, number
from plm_edge.bench.meters.meter import Finding, Meter


def query(host: Host, field: str) -> list[float | None]:
    """A field of every GPU; empty without any."""
    said = host.run("nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits")
    return [number(line.strip()) for line in (said or "").splitlines() if line.strip()]


class NvidiaPower(Meter):
    """power.draw of all GPUs together."""

    quantity = "power"
    covers = "GPU boards"

    def __init__(self, host: Host) -> None:
        super().__init__("nvidia", "nvidia-smi --query-gpu=power.draw")
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
