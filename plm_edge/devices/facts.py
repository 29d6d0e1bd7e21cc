"""One shell script, sent through a transport, makes a machine say what it is.

The script uses what every Linux, Android and macOS has; whatever is missing is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from plm_edge.machine import cores, cpu
from plm_edge.machine.cpu import Processor
from plm_edge.machine.memory import Room, proc_table

if TYPE_CHECKING:
    from plm_edge.devices.transports.transport import Transport

_TIME = 60.0  # seconds
SCRIPT = r"""
section() { printf '\n== %s\n' "$1"; }
have() { command -v "$1" >/dev/null 2>&1; }
section system; uname -s; uname -m; uname -r
section libc; getconf GNU_LIBC_VERSION
section page; getconf PAGESIZE
section model; tr -d '\0' < /proc/device-tree/model || cat /sys/class/dmi/id/product_name
section cpuinfo; cat /proc/cpuinfo
section meminfo; head -n 5 /proc/meminfo
section cores
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
    [ -d "$cpu" ] || continue
    clock=$(cat "$cpu/cpufreq/cpuinfo_max_freq")
    group=$(cat "$cpu/topology/core_cpus_list" || cat "$cpu/topology/thread_siblings_list")
    echo "${cpu##*cpu} max=$clock group=$group"
done
section nvidia
asked=name,memory.total,compute_cap
have nvidia-smi && nvidia-smi --query-gpu=$asked --format=csv,noheader,nounits
section props
have getprop && for name in ro.product.model ro.soc.model ro.build.version.release; do
    echo "$name=$(getprop "$name")"
done
section darwin
[ "$(uname -s)" != Darwin ] || sysctl machdep.cpu.brand_string hw.memsize hw.optional \
    hw.perflevel0.physicalcpu hw.perflevel1.physicalcpu
section meters
for file in /sys/class/thermal/thermal_zone0/temp /sys/class/hwmon/hwmon0/temp1_input \
    /sys/class/powercap/intel-rapl:0/energy_uj /sys/class/power_supply/battery/current_now \
    /sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq \
    /sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count \
    /sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*; do
    [ ! -e "$file" ] || echo "$file"
done
command -v vcgencmd
section disk; df -Pk . | tail -n 1
exit 0
"""


@dataclass(frozen=True)
class Group:
    """Cores of one kind: name, number of physical cores, highest clock in GHz if it is known."""

    core: str
    count: int
    clock: float | None


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU: name, memory in bytes, compute capability such as 8.9."""

    name: str
    memory: int
    compute: str


@dataclass(frozen=True)
class Facts:
    """What a machine reports. Sizes are in bytes; None or empty means that it does not say.

    `machine` is what `uname -m` prints. `features` are those that every core has, by Linux's names.
    `groups` has the fastest cores first. `disk_free` is free space where a login starts. `meters`
    has the paths and programs that can measure the machine.
    """

    system: str
    machine: str
    kernel: str
    libc: str
    model: str
    cpu: str
    features: tuple[str, ...]
    groups: tuple[Group, ...]
    ram: int | None
    ram_available: int | None
    disk_free: int | None
    page: int | None
    gpus: tuple[Gpu, ...]
    android: str
    meters: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All fields as plain data."""
        return asdict(self)


def ask(device: Transport) -> Facts:
    """Run SCRIPT on a device, and parse what it prints.

    Raises:
        DeviceError: the device cannot be reached.
    """
    return parse(device.shell(f"exec 2>/dev/null\n{SCRIPT}", timeout=_TIME, check=True).text)


def memory_available(device: Transport) -> Room | None:
    """The memory that a device has free now; None if it does not say.

    Raises:
        DeviceError: the device cannot be reached.
    """
    text = device.shell("cat /proc/meminfo 2>/dev/null; exit 0", timeout=_TIME).text
    free = proc_table(text).get("MemAvailable")
    return None if free is None else Room(free, device.name)


def parse(text: str) -> Facts:
    """The facts in what SCRIPT prints."""
    sections = re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", text, re.S | re.M)
    parts: dict[str, str] = {name: body.strip() for name, body in sections}
    system, machine, kernel = [*parts.get("system", "").splitlines(), "", "", ""][:3]
    processors = cpu.processors(parts.get("cpuinfo", ""))
    props = dict(line.split("=", 1) for line in parts.get("props", "").splitlines() if "=" in line)
    mac = dict(line.split(": ", 1) for line in parts.get("darwin", "").splitlines() if ": " in line)
    memory = proc_table(parts.get("meminfo", ""))
    disk = parts.get("disk", "").split()
    page = parts.get("page", "")
    android = props.get("ro.build.version.release", "")
    return Facts(
        system=system,
        machine={"arm64": "aarch64", "amd64": "x86_64"}.get(machine, machine),
        kernel=kernel,
        libc=parts.get("libc") or ("bionic" if android else ""),
        model=props.get("ro.product.model") or parts.get("model", ""),
        cpu=props.get("ro.soc.model")
        or mac.get("machdep.cpu.brand_string")
        or (cores.kind(processors[0]) if processors else ""),
        features=_features(processors, mac, machine),
        groups=_groups(processors, parts.get("cores", ""), mac),
        ram=memory.get("MemTotal") or _integer(mac, "hw.memsize"),
        ram_available=memory.get("MemAvailable"),
        disk_free=int(disk[3]) * 1024 if len(disk) > 3 and disk[3].isdigit() else None,
        page=int(page) if page.isdigit() else None,
        gpus=_gpus(parts.get("nvidia", "")),
        android=android,
        meters=tuple(parts.get("meters", "").split()),
    )


def _features(processors: list[Processor], mac: dict[str, str], machine: str) -> tuple[str, ...]:
    if processors or not mac:
        return cpu.common_features(processors)
    return cpu.darwin_features(mac, arm=machine == "arm64")


def _groups(processors: list[Processor], text: str, mac: dict[str, str]) -> tuple[Group, ...]:
    """Physical cores by kind and clock; one hyper-thread of each core counts."""
    if mac:
        counts = [_integer(mac, f"hw.perflevel{level}.physicalcpu") for level in (0, 1)]
        kinds = ("performance core", "efficiency core")
        return tuple(
            Group(kind, count, None) for kind, count in zip(kinds, counts, strict=True) if count
        )
    rows = re.findall(r"^(\d+) max=(\d*) group=(\S*)$", text, re.M)
    clocks = {number: int(clock) / 1e6 for number, clock, _ in rows if clock}
    siblings = {number: group for number, _, group in rows if group}
    seen: set[str] = set()
    count: Counter[tuple[str, float | None]] = Counter()
    for processor in processors:
        number = processor["processor"]
        core = siblings.get(number, number)
        if core not in seen:
            seen.add(core)
            count[cores.kind(processor), clocks.get(number)] += 1
    groups = [Group(core, number, clock) for (core, clock), number in count.items()]
    return tuple(sorted(groups, key=lambda group: -(group.clock or 0)))


def _gpus(text: str) -> tuple[Gpu, ...]:
    rows = [[word.strip() for word in line.split(",")] for line in text.splitlines()]
    return tuple(
        Gpu(row[0], int(row[1]) * 2**20 if row[1].isdigit() else 0, row[2])
        for row in rows
        if len(row) == 3 and re.fullmatch(r"\d+\.\d+", row[2])
    )


def _integer(table: dict[str, str], name: str) -> int | None:
    value = table.get(name, "")
    return int(value) if value.isdigit() else None
