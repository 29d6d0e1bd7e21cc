"""This module disassembles a program and counts its instructions by extension."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from plm_edge.building import elf, isa_arm, isa_x86

# Functions that a library calls only after it has asked whether the CPU has what they use: atomics
# as calls (gcc's and compiler-rt's), glibc's string and mathematics functions, and libunwind's,
# which meet SVE, SME or tagged frames only where such code was running. Of ours, the quantisers of
# each vector width (overlay/ggml/src/plm-quants).
_GUARDED = re.compile(
    r"__aarch64_(?:cas|swp|ldadd|ldclr|ldeor|ldset)\d+_"
    r"|__arm_(?:sme|sc|za|tpidr2)|_ZN9libunwind|__libunwind_"
    r"|_dl_runtime_resolve|_dl_tlsdesc"
    r"|_*(?:mem|str|stp|wcs|wmem|rawmem)\w*_(?:sse|ssse|avx|evex|erms|mte|sve|mops|a64fx|oryon)\w*$"
    r"|_ZN?\d+plm_quantize_\d+"
    r"|_{1,3}\w+_(?:fma4?|avx2?(?:_fma)?|avx512\w*|evex\w*|sse4_?[12])$"
)


@dataclass(frozen=True)
class InstructionScan:
    """How many instructions of each extension a file holds.

    `arch` is as `uname -m` prints it. `counts` has the instructions that run wherever the program
    does, `guarded` those in functions that are called only if the CPU has the extension. `glibc` is
    the oldest version that the file runs with, or empty.
    """

    arch: str
    counts: dict[str, int]
    guarded: dict[str, int]
    glibc: str

    @property
    def requires(self) -> frozenset[str]:
        """The features that a CPU must have, by Linux's names."""
        return frozenset(self.counts)


def scan(path: Path) -> InstructionScan:
    """Disassemble a program or library. This takes some seconds for 10 MB.

    Guarded functions are known by their names, so in a stripped file none is known as guarded.

    Raises:
        PlmEdgeError: it is no ELF file for aarch64 or x86_64, or a Python package is missing.
    """
    code = elf.read(path)
    reader = isa_arm.count if code.arch == "aarch64" else isa_x86.count
    counts: Counter[str] = Counter()
    guarded: Counter[str] = Counter()
    for name, function, count in reader(code.blocks, code.symbols):
        (guarded if _GUARDED.match(function) else counts)[name] += count
    return InstructionScan(
        code.arch, dict(sorted(counts.items())), dict(sorted(guarded.items())), code.glibc
    )
