"""What a CPU's features are called by compilers, by ggml's builds and by emulators."""

from __future__ import annotations

# qemu's CPU models, each with the features that a build for it may use; the richest first
_EMULATED = (
    ("cortex-a76", {"asimddp", "asimdhp", "fphp"}),
    ("cortex-a72", {"asimd"}),
)

# x86-64's levels (psABI), each with the features that it adds, by Linux's names
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


def x86_level(features: set[str]) -> str:
    """The highest x86-64 level that has only these features: v4, v3, v2, or "" for the baseline."""
    level = ""
    for name, added in X86_LEVELS.items():
        if not added <= features:
            break
        level = name
    return level


def arm_isa(features: set[str]) -> str:
    """The version of ARM's architecture, as far as these features show it, such as armv8.2-a."""
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


def emulator(arch: str, features: set[str]) -> tuple[str, str] | None:
    """qemu's program and the closest CPU model that has no more than these features."""
    if arch == "x86_64":
        model = _X86_EMULATED.get(x86_level(features))
        return ("qemu-x86_64", model) if model else None
    for name, needed in _EMULATED:
        if needed <= features:
            return "qemu-aarch64", name
    return None
