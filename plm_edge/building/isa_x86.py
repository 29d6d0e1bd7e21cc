"""These tables give the extension of x86-64 instructions, by Linux's names (/proc/cpuinfo)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from plm_edge.building.elf import Symbols, no_library

# iced-x86's CPUID feature → Linux's name. Left out are features that every 64-bit x86 has, that
# the kernel grants, or that are mere hints.
_NAMES = {
    "SSE3": "pni", "SSSE3": "ssse3", "SSE4_1": "sse4_1", "SSE4_2": "sse4_2", "SSE4A": "sse4a",
    "POPCNT": "popcnt", "LZCNT": "abm", "MOVBE": "movbe", "CMPXCHG16B": "cx16",
    "AVX": "avx", "AVX2": "avx2", "FMA": "fma", "FMA4": "fma4", "F16C": "f16c", "XOP": "xop",
    "BMI1": "bmi1", "BMI2": "bmi2", "ADX": "adx", "RTM": "rtm", "TBM": "tbm",
    "AES": "aes", "VAES": "vaes", "PCLMULQDQ": "pclmulqdq", "VPCLMULQDQ": "vpclmulqdq",
    "SHA": "sha_ni", "GFNI": "gfni", "AVX_VNNI": "avx_vnni", "AVX_IFMA": "avx_ifma",
    "AVX512F": "avx512f", "AVX512BW": "avx512bw", "AVX512DQ": "avx512dq", "AVX512VL": "avx512vl",
    "AVX512CD": "avx512cd", "AVX512_VBMI": "avx512vbmi", "AVX512_VBMI2": "avx512_vbmi2",
    "AVX512_VNNI": "avx512_vnni", "AVX512_BF16": "avx512_bf16", "AVX512_FP16": "avx512_fp16",
    "AVX512_BITALG": "avx512_bitalg", "AVX512_VPOPCNTDQ": "avx512_vpopcntdq",
    "AVX512_IFMA": "avx512ifma", "AMX_TILE": "amx_tile", "AMX_INT8": "amx_int8",
    "AMX_BF16": "amx_bf16",
}  # fmt: skip


def count(blocks: Iterable[tuple[int, bytes]], symbols: Symbols) -> Iterator[tuple[str, str, int]]:
    """Count the instructions that plain x86-64 lacks.

    Args:
        blocks: code as (address, bytes).
        symbols: the functions.

    Yields:
        The extension, the function, and how many of its instructions that function has.

    Raises:
        PlmEdgeError: iced-x86 is missing.
    """
    try:
        import iced_x86
    except ImportError as error:
        raise no_library("iced-x86") from error
    bits = {
        value: _NAMES[name] for name, value in vars(iced_x86.CpuidFeature).items() if name in _NAMES
    }
    # gcc writes tzcnt where bsf would do as well; a CPU without BMI1 runs it as bsf.
    either = {value for name, value in vars(iced_x86.Code).items() if name.startswith("TZCNT_")}
    names: dict[int, tuple[str, ...]] = dict.fromkeys(either, ())
    counts: Counter[tuple[str, str]] = Counter()
    for address, code in blocks:
        for item in iced_x86.Decoder(64, code, ip=address):
            known = names.get(item.code)
            if known is None:
                features = item.cpuid_features()
                known = names[item.code] = tuple(bits[bit] for bit in features if bit in bits)
            for name in known:
                counts[name, symbols.at(item.ip)] += 1
    for (name, function), count in counts.items():
        yield name, function, count
