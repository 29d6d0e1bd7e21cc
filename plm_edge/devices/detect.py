"""`detect` makes a machine's profile from what the machine reports."""

from __future__ import annotations

import re
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.devices import cores
from plm_edge.devices.facts import Facts, Group
from plm_edge.devices.profiles.profile import SCHEMA, Profile, find
from plm_edge.devices.transports.local import LocalTransport
from plm_edge.machine.cores import Core, big

SOURCE = "reported"
_STATIC = ["-DGGML_NATIVE=OFF", "-DBUILD_SHARED_LIBS=OFF"]
_SYSFS_CLOCK = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq"
# Mark in `Facts.meters` → meter: what it measures, how bench reads it, its unit
# (tests/bench/test_profile_meters.py: each is one that bench or run --device reads)
METERS = (
    ("vcgencmd", "throttling", "command", "vcgencmd get_throttled", "bits, see get_throttled"),
    ("core_throttle_count", "throttling", "files",
     "/sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count", "events since boot"),
    ("thermal_zone", "temperature", "files", "/sys/class/thermal/thermal_zone*/temp", "m°C"),
    ("hwmon0/temp", "temperature", "files", "/sys/class/hwmon/hwmon*/temp*_input", "m°C"),
    ("scaling_cur_freq", "frequency", "files", _SYSFS_CLOCK, "kHz"),
    ("intel-rapl", "energy", "files", "/sys/class/powercap/intel-rapl:*/energy_uj", "µJ"),
    ("current_now", "energy", "files",
     "/sys/class/power_supply/battery/{current_now,voltage_now}", "µA and µV"),
    ("ina3221", "energy", "files",
     "/sys/class/hwmon/hwmon*/{in,curr}[123]_input", "mV and mA a rail, where name is ina3221"),
)  # fmt: skip


def profile_of(facts: Facts, name: str, transport: str, device: str) -> Profile:
    """Make a profile from what a machine reports.

    Args:
        facts: what it reports.
        name: the profile's name.
        transport: local, ssh or adb.
        device: the machine that reported it, for [sources].

    Raises:
        PlmEdgeError: it is neither aarch64 nor x86_64.
    """
    features, arch = set(facts.features), _arch(facts, device)
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "title": facts.model or facts.cpu or name,
        "cpu": _cpu(facts, arch),
        "memory": {},
        "gpu": _gpu(facts),
        "build": _build(facts, arch),
        "transport": {
            "kind": transport,
            "folder": "/data/local/tmp/plm-edge" if transport == "adb" else ".local/share/plm-edge",
        },
        "meters": _meters(facts),
        "defaults": _defaults(facts),
        "emulator": _emulator(arch, features),
        "sources": {SOURCE: f"{device}, Linux {facts.kernel}" if facts.system == "Linux"
                    else f"{device}, {facts.system} {facts.kernel}"},
    }  # fmt: skip
    if facts.ram:
        data["memory"] = {
            "ram": {"value": round(facts.ram / 2**30, 1), "unit": "GiB", "source": SOURCE}
        }
    return Profile({key: value for key, value in data.items() if value != {}}, "detected")


def profile_of_host() -> Profile:
    """The profile of this machine, named "host"."""
    device = LocalTransport()
    found = profile_of(device.facts(), "host", "local", device.name)
    found.data["title"] = f"This machine ({found.title})"
    return found


def profile_by_name(name: str) -> Profile:
    """Find a profile by its name; one that is to be detected is read from this machine.

    Raises:
        PlmEdgeError: there is none, or it is broken.
    """
    profile = find(name)
    return profile_of_host() if profile.detected else profile


def _arch(facts: Facts, device: str) -> str:
    if facts.machine in ("aarch64", "x86_64"):
        return facts.machine
    arm = facts.machine.startswith("arm")
    raise PlmEdgeError(
        f"there are no kernels for {device}",
        f"it is {facts.machine or 'of an unknown kind'}; plm-edge runs on aarch64 and x86_64",
        "install its 64-bit system" if arm else "choose another machine",
        ExitCode.ENVIRONMENT,
    )


def _cpu(facts: Facts, arch: str) -> dict[str, Any]:
    features = set(facts.features)
    level = cores.x86_level(features)
    isa = (
        cores.arm_isa(features) if arch == "aarch64" else "x86-64" + (f"-{level}" if level else "")
    )
    cpu: dict[str, Any] = {"name": facts.cpu} if facts.cpu else {}
    cpu |= {"arch": arch, "isa": isa, "features": [*facts.features], "source": SOURCE}
    if facts.groups:
        cpu["clusters"] = [_cluster(group) for group in facts.groups]
    return cpu


def _cluster(group: Group) -> dict[str, Any]:
    found: dict[str, Any] = {"core": group.core, "count": group.count}
    if group.clock:
        found["clock"] = {"value": round(group.clock, 3), "unit": "GHz", "source": SOURCE}
    return found | {"source": SOURCE}


def _gpu(facts: Facts) -> dict[str, Any]:
    if facts.gpus:
        first = facts.gpus[0]
        found: dict[str, Any] = {
            "name": first.name, "backend": "cuda", "arch": first.compute.replace(".", ""),
            "source": SOURCE,
        }  # fmt: skip
        if first.memory:
            size = round(first.memory / 2**30, 1)
            return found | {"memory": {"value": size, "unit": "GiB", "source": SOURCE}}
        return found
    if facts.system == "Darwin" and facts.machine == "aarch64":
        return {"name": facts.cpu, "backend": "metal", "unified": True, "source": SOURCE}
    return {}


def _build(facts: Facts, arch: str) -> dict[str, Any]:
    features = set(facts.features)
    found: dict[str, Any] = {
        "triple": _triple(facts, arch),
        "cpu": cores.zig_cpu(arch, features),
        "linkage": "static",
        "flags": [*_STATIC],
        "variants": cores.variants(arch, features, bool(facts.android)),
    }
    if facts.gpus:
        architecture = facts.gpus[0].compute.replace(".", "")
        found["linkage"] = "shared"
        found["flags"] = [
            "-DGGML_NATIVE=OFF", "-DGGML_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={architecture}",
        ]  # fmt: skip
    return found


def _triple(facts: Facts, arch: str) -> str:
    if facts.system == "Darwin":
        return f"{arch}-macos"
    glibc = re.search(r"glibc (\d+\.\d+)", facts.libc)
    # Without glibc (Android, Alpine) a static program with musl runs on any kernel.
    return f"{arch}-linux-gnu.{glibc[1]}" if glibc else f"{arch}-linux-musl"


def _meters(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for mark, measures, kind, read, unit in METERS:
        if measures not in found and any(mark in path for path in facts.meters):
            found[measures] = {"kind": kind, "read": read, "unit": unit, "source": SOURCE}
    if facts.gpus and "energy" not in found:
        read = "nvidia-smi --query-gpu=power.draw --format=csv,noheader,nounits"
        found["energy"] = {"kind": "command", "read": read, "unit": "W", "source": SOURCE}
    return found


def _defaults(facts: Facts) -> dict[str, Any]:
    threads = big_cores(facts.groups)
    small = facts.ram is not None and facts.ram < 3 * 2**30
    slow = facts.machine == "aarch64" and "asimddp" not in facts.features
    found: dict[str, Any] = {
        "threads": threads or 1,
        "quant": "q4_0" if slow else "q4_k_m",
        "kv_type": "q8_0" if small else "f16",
        "context": 2048 if small or facts.android else 4096,
    }
    if facts.gpus or (facts.system == "Darwin" and facts.machine == "aarch64"):
        found["gpu_layers"] = -1
    return found | {"why": "one thread a big core; little cores would slow every step"}


def big_cores(groups: tuple[Group, ...]) -> int:
    """How many big cores there are (`machine.cores.big`): as many threads compute best."""
    chosen = big([Core(group.core, group.clock) for group in groups])
    return sum(group.count for group, is_big in zip(groups, chosen, strict=True) if is_big)


def _emulator(arch: str, features: set[str]) -> dict[str, Any]:
    found = cores.emulator(arch, features)
    if found is None:
        return {}
    return {"program": found[0], "cpu": found[1], "source": SOURCE}
