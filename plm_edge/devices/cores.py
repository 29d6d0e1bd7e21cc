"""ARM cores: the number that Linux shows, the name, and what builds and emulators call them.

Numbers from Arm's technical reference manuals (MIDR_EL1), as util-linux's lscpu-arm.c lists them.
"""

from __future__ import annotations

PARTS = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57",
    0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
    0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4B: "Cortex-A78C", 0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720",
    0xD82: "Cortex-X4", 0xD85: "Cortex-X925", 0xD87: "Cortex-A725",
}  # fmt: skip
ARM_LTD = 0x41

# qemu's models, each with what builds for it may use; the richest first
_EMULATED = (
    ("cortex-a76", {"asimddp", "asimdhp", "fphp"}),
    ("cortex-a72", {"asimd"}),
)

# x86-64's levels (psABI), by Linux's names of what each adds
X86_LEVELS: dict[str, set[str]] = {
    "v2": {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
    "v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
    "v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
_X86_EMULATED = {"v2": "Nehalem", "v3": "Haswell"}
X86_VARIANTS = {
    "": ["x64"],
    "v2": ["x64", "sse42"],
    "v3": ["x64", "sse42", "sandybridge", "haswell"],
    "v4": ["x64", "sse42", "sandybridge", "haswell", "skylakex"],
}


def core_name(implementer: int, part: int) -> str:
    """Cortex-A76 for 0x41, 0xd0b; the numbers themselves for a core that is not listed."""
    known = PARTS.get(part) if implementer == ARM_LTD else None
    return known or f"implementer 0x{implementer:02x}, part 0x{part:03x}"


def x86_level(features: set[str]) -> str:
    """v4, v3, v2, or "" for the baseline."""
    level = ""
    for name, added in X86_LEVELS.items():
        if not added <= features:
            break
        level = name
    return level


def arm_isa(features: set[str]) -> str:
    """The name of the architecture, as far as features that matter here tell it."""
    if {"asimddp", "asimdhp", "i8mm", "bf16"} <= features:
        return "armv8.6-a"
    if {"asimdhp", "atomics"} <= features:
        return "armv8.2-a"
    return "armv8-a"


def zig_cpu(arch: str, features: set[str]) -> str:
    """zig's -mcpu for every CPU with these features: a generic one, never a guess at the model."""
    if arch == "x86_64":
        level = x86_level(features)
        return f"x86_64_{level}" if level else "x86_64"
    if not {"asimdhp", "fphp", "atomics"} <= features:
        return "generic"
    names = {"asimddp": "dotprod", "i8mm": "i8mm"}
    extra = [ours for linux, ours in names.items() if linux in features]
    return "+".join(["generic", "v8_2a", "fullfp16", *extra])


def variants(arch: str, features: set[str], android: bool) -> list[str]:
    """ggml's CPU variants (its src/CMakeLists.txt) that run on these features, the best last."""
    if arch == "x86_64":
        return X86_VARIANTS[x86_level(features)]
    found = ["armv8.0_1"]
    if "asimddp" in features:
        found.append("armv8.2_1")
        if "asimdhp" in features:
            found.append("armv8.2_2")
            if "i8mm" in features and (android or "sve" in features):
                found.append("armv8.6_1")
    return [f"android_{name}" if android else name for name in found]


def emulated(arch: str, features: set[str]) -> tuple[str, str] | None:
    """qemu's program and the closest CPU model that has no more than these features."""
    if arch == "x86_64":
        model = _X86_EMULATED.get(x86_level(features))
        return ("qemu-x86_64", model) if model else None
    for name, needed in _EMULATED:
        if needed <= features:
            return "qemu-aarch64", name
    return None
