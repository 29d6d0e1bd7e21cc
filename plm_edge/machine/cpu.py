"""This module gives the CPU's name, clock and features, these by Linux's names (/proc/cpuinfo)."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

Processor = dict[str, str]
"""One processor's lines of /proc/cpuinfo."""

_CPUINFO = Path("/proc/cpuinfo")
_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")

# What the engine can be built to use. CMakeLists.txt records those of a native build, from the
# same names (tests/machine/test_cpu.py compares the two lists).
X86_FEATURES = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "bmi2", "avx_vnni", "avx512f", "avx512bw", "avx512dq",
    "avx512vl", "avx512cd", "avx512vbmi", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8",
    "amx_bf16",
)  # fmt: skip
ARM_FEATURES = ("asimd", "asimdhp", "fphp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme")

# macOS's names under hw.optional, each with Linux's for the same.
DARWIN_NAMES: dict[str, tuple[str, ...]] = {
    "arm.FEAT_DotProd": ("asimddp",),
    "arm.FEAT_FP16": ("asimdhp", "fphp"),
    "arm.FEAT_I8MM": ("i8mm",),
    "arm.FEAT_BF16": ("bf16",),
    "arm.FEAT_LSE": ("atomics",),
    "arm.FEAT_SME": ("sme",),
    "sse4_2": ("sse4_2",),
    "avx1_0": ("avx",),
    "avx2_0": ("avx2",),
    "fma": ("fma",),
    "f16c": ("f16c",),
    "bmi2": ("bmi2",),
    "avx512f": ("avx512f",),
    "avx512bw": ("avx512bw",),
    "avx512dq": ("avx512dq",),
    "avx512vl": ("avx512vl",),
    "avx512cd": ("avx512cd",),
    "avx512vbmi": ("avx512vbmi",),
}


def processors(cpuinfo: str) -> list[Processor]:
    """Reads /proc/cpuinfo as one table a processor.

    Lines after the last processor, which are about the whole board, are left out.
    """
    found = []
    for block in re.split(r"\n\s*\n", cpuinfo):
        rows = [line.partition(":") for line in block.splitlines() if ":" in line]
        table = {name.strip(): value.strip() for name, _, value in rows}
        if table.get("processor", "").isdigit():
            found.append(table)
    return found


def all_processors() -> list[Processor]:
    """Returns this machine's processors, from /proc/cpuinfo.

    It is empty where there is no such file.
    """
    return processors(_read(_CPUINFO))


def common_features(tables: Sequence[Processor]) -> tuple[str, ...]:
    """Returns what all processors have, in the order of the first: a thread may run on any of
    them."""
    lists = [(table.get("flags") or table.get("Features") or "").split() for table in tables]
    if not lists:
        return ()
    common = set.intersection(*map(set, lists))
    return tuple(dict.fromkeys(name for name in lists[0] if name in common))


def darwin_features(answers: Mapping[str, str], arm: bool) -> tuple[str, ...]:
    """Returns Linux's names of what macOS says of the CPU.

    Args:
        answers: sysctl's names and values.
        arm: an Apple CPU; each has 64-bit SIMD without saying so.
    """
    found = [
        name
        for key, names in DARWIN_NAMES.items()
        if answers.get(f"hw.optional.{key}") == "1"
        for name in names
    ]
    return ("fp", "asimd", *found) if arm else tuple(found)


def flags() -> tuple[str, ...]:
    """Returns all features of this CPU, by Linux's names; empty where the system does not tell."""
    if sys.platform == "darwin":
        return darwin_features(_sysctl("hw.optional"), platform.machine() == "arm64")
    return common_features(all_processors())


def features() -> list[str]:
    """Returns those features of this CPU that the engine can be built to use."""
    have = set(flags())
    return [name for name in (*X86_FEATURES, *ARM_FEATURES) if name in have]


def name() -> str:
    """Returns the processor's name as the system gives it: a model, or the board on ARM."""
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu").get("machdep.cpu.brand_string", "") or platform.machine()
    rows = [line.partition(":") for line in _read(_CPUINFO).splitlines()]
    for key, _, value in rows:
        if key.strip() in ("model name", "Model", "Hardware") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def is_virtual() -> bool:
    """Returns whether the CPU says that it is a virtual machine's (x86 alone does)."""
    return "hypervisor" in flags()


def governor() -> str | None:
    """Returns what chooses the clock, such as "performance"; None where nothing tells."""
    return _read(_CPUFREQ / "scaling_governor").strip() or None


def max_mhz() -> float | None:
    """Returns the highest clock in MHz; None where Linux's cpufreq does not tell."""
    told = _read(_CPUFREQ / "cpuinfo_max_freq").strip()
    return int(told) / 1000 if told.isdigit() else None


def clock_ghz() -> float | None:
    """Returns the highest clock in GHz, or the present one; None where the system tells neither."""
    import psutil

    found = psutil.cpu_freq()
    return (found.max or found.current) / 1000 if found else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl(subtree: str) -> dict[str, str]:
    try:
        done = subprocess.run(
            ["sysctl", subtree], capture_output=True, text=True, timeout=20, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
