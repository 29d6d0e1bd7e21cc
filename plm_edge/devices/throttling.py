"""Why a device runs slower than it could, decoded from what boards, phones and Linux report."""

from __future__ import annotations

import re
from collections.abc import Iterable

PI_COMMAND = "vcgencmd get_throttled"
# Bits of the Raspberry Pi's answer that say what holds now; 16 to 19 say it since boot.
_PI_BITS = {
    0: "under-voltage",
    1: "its clock is capped",
    2: "throttled",
    3: "soft temperature limit",
}
_ANDROID = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


def pi_reasons(answer: str) -> list[str] | None:
    """Reasons that hold now, from what PI_COMMAND prints; None if that is no answer of it."""
    found = re.search(r"throttled=0x([0-9a-fA-F]+)", answer)
    if found is None:
        return None
    bits = int(found[1], 16)
    return [words for bit, words in _PI_BITS.items() if bits >> bit & 1]


def android_reasons(answer: str) -> list[str]:
    """Reasons that hold now, from what `dumpsys thermalservice` prints."""
    found = re.search(r"Thermal Status: (\d)", answer)
    if found is None or found[1] == "0":
        return []
    level = min(int(found[1]), len(_ANDROID) - 1)
    return [f"thermal status {found[1]} ({_ANDROID[level]})"]


def cools_the_cpu(kind: str) -> bool:
    """Whether a cooling device of this type (cooling_device*/type) lowers the CPU's clock."""
    return "cpufreq" in kind.lower() or kind.lower() == "processor"


def cooling_reasons(states: Iterable[int]) -> list[str]:
    """Reasons that hold now, from the states of the CPU's cooling devices; 0 is one at rest."""
    return ["the kernel lowers the CPU's clock to cool it"] if any(states) else []
