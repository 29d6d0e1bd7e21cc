"""This module translates a device's features to the names of compilers and ggml's cmake."""

from __future__ import annotations

from plm_edge.devices.cores import arm_isa, x86_level

# ggml's switch → what it lets the compiler use, by Linux's names
_X86_SETTINGS = {
    "GGML_SSE42": {"sse4_2"},
    "GGML_AVX": {"avx"},
    "GGML_AVX2": {"avx2"},
    "GGML_FMA": {"fma"},
    "GGML_F16C": {"f16c"},
    "GGML_BMI2": {"bmi2"},
    "GGML_AVX512": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
    "GGML_AVX512_VBMI": {"avx512vbmi"},
    "GGML_AVX512_VNNI": {"avx512_vnni"},
    "GGML_AVX512_BF16": {"avx512_bf16"},
    "GGML_AVX_VNNI": {"avx_vnni"},
}


def x86_settings(features: set[str]) -> dict[str, str]:
    """All of ggml's switches for x86-64, ON or OFF: ggml would turn some on by itself."""
    return {name: "ON" if needed <= features else "OFF" for name, needed in _X86_SETTINGS.items()}


def gcc_march(arch: str, features: set[str]) -> str:
    """gcc's -march for every CPU with these features, such as armv8.2-a+dotprod+fp16."""
    if arch == "x86_64":
        level = x86_level(features)
        return f"x86-64-{level}" if level else "x86-64"
    if arm_isa(features) == "armv8-a":
        return "armv8-a" + ("+crc" if "crc32" in features else "")
    # Not armv8.6-a: that has more than these features.
    extra = (("asimddp", "dotprod"), ("asimdhp", "fp16"), ("i8mm", "i8mm"), ("bf16", "bf16"))
    return "+".join(["armv8.2-a", *(ours for linux, ours in extra if linux in features)])
