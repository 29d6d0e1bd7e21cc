"""Every meter that a device profile names is one that `bench` or `run --device` reads."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest

from plm_edge.bench import meters
from plm_edge.bench.meters.host import LocalHost
from plm_edge.deploy import trouble
from plm_edge.devices import detect
from plm_edge.devices.profiles.profile import builtin_dir, load
from plm_edge.devices.transports.local import LocalTransport

# a profile's name of what is measured → the quantities of the meters that bench has
QUANTITIES = {
    "energy": ("energy", "power"),
    "temperature": ("temperature",),
    "frequency": ("frequency",),
    "throttling": ("throttled",),
}
ANSWERS = {
    "vcgencmd pmic_read_adc": "VDD_CORE_A current(7)=2.0A\nVDD_CORE_V volt(15)=0.75V\n",
    "vcgencmd get_throttled": "throttled=0x0\n",
    "dumpsys thermalservice": "Thermal Status: 0\n",
}
# a file that holds a figure → what stands beside it, by which a meter knows the device
NEIGHBOURS = {
    "energy_uj": {"name": "package-0"},
    "current_now": {"type": "Battery", "status": "Discharging"},
    "in1_input": {"name": "ina3221", "in1_label": "VDD_A", "in2_label": "VDD_B", "in3_label": "C"},
    "temp0_input": {"name": "coretemp"},
}


def named() -> list[tuple[str, str, str]]:
    """What profiles name: quantity, kind and what is read, of the built-in and of detected ones."""
    profiles = [load(path) for path in sorted(builtin_dir().glob("*.toml"))]
    built_in = [
        (quantity, meter.kind, meter.read)
        for profile in profiles
        for quantity, meter in profile.meters.items()
    ]
    detected = [(quantity, kind, read) for _, quantity, kind, read, _ in detect.METERS]
    return sorted({*built_in, *detected})


def expanded(pattern: str) -> list[str]:
    """Files that match a pattern: {a,b} and [12] in all ways, * once."""
    parts = re.split(r"(\{[^}]*\}|\[[^]]*\])", pattern.replace("*", "0"))
    choices = [
        part[1:-1].split(",") if part.startswith("{")
        else list(part[1:-1]) if part.startswith("[") else [part]
        for part in parts
    ]  # fmt: skip
    return ["".join(choice) for choice in itertools.product(*choices)]


class WatchedHost(LocalHost):
    """A simulated machine that remembers which of its files and commands were read."""

    def __init__(self, root: Path, commands: dict[str, str]) -> None:
        super().__init__(root)
        self.commands = commands
        self.asked: set[str] = set()

    def read(self, path: str) -> str | None:
        self.asked.add(path)
        return super().read(path)

    def run(self, *command: str) -> str | None:
        self.asked.add(" ".join(command))
        return self.commands.get(" ".join(command))


def asked_by_bench(host: WatchedHost, quantity: str) -> set[str]:
    """What bench's meters of a quantity read, once they are found."""
    found = meters.find(host).of(*QUANTITIES[quantity])
    host.asked.clear()
    assert all(meter.read() is not None for meter in found)
    return host.asked


def asked_by_run(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The command, where `run --device` asks it for the reason of a slow device."""
    log = folder / "log"
    program = folder / command.split()[0]
    program.write_text(f'#!/bin/sh\necho "{program.name} $*" >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    trouble.throttling_reason(LocalTransport())
    return set(log.read_text().splitlines()) if log.exists() else set()


@pytest.mark.parametrize(("quantity", "kind", "read"), named())
def test_it_is_read(
    quantity: str, kind: str, read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, programs = tmp_path / "root", tmp_path / "programs"
    programs.mkdir()
    wanted = [read] if kind == "command" else expanded(read)
    host = WatchedHost(root, {read: ANSWERS.get(read, "40\n")} if kind == "command" else {})
    for path in wanted if kind == "files" else ():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("5000\n")
        for name, text in NEIGHBOURS.get(place.name, {}).items():
            (place.parent / name).write_text(f"{text}\n")
    asked = asked_by_bench(host, quantity)
    if kind == "command" and quantity == "throttling":
        asked = asked | asked_by_run(read, programs, monkeypatch)
    assert set(wanted) <= asked
