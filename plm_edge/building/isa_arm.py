"""These tables give the extension of aarch64 instructions, by Linux's names (HWCAP)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from plm_edge.building.elf import Symbols, no_library

# Extension → mnemonics that only it has. Hints (paciasp, bti …) do nothing on older CPUs.
_NAMES: dict[str, tuple[str, ...]] = {
    "asimddp": ("sdot", "udot"),
    "i8mm": ("smmla", "ummla", "usmmla", "usdot", "sudot"),
    "bf16": ("bfdot", "bfmmla", "bfmlalb", "bfmlalt", "bfcvt", "bfcvtn", "bfcvtn2"),
    "asimdfhm": ("fmlal", "fmlal2", "fmlsl", "fmlsl2"),
    "asimdrdm": ("sqrdmlah", "sqrdmlsh"),
    "fcma": ("fcmla", "fcadd"),
    "jscvt": ("fjcvtzs",),
    "lrcpc": ("ldapr", "ldaprb", "ldaprh"),
    "ilrcpc": ("ldapur", "ldapurb", "ldapurh", "ldapursb", "ldapursh", "ldapursw",
               "stlur", "stlurb", "stlurh"),
    "crc32": ("crc32b", "crc32h", "crc32w", "crc32x",
              "crc32cb", "crc32ch", "crc32cw", "crc32cx"),
    "aes": ("aese", "aesd", "aesmc", "aesimc"),
    "sha1": ("sha1c", "sha1p", "sha1m", "sha1h", "sha1su0", "sha1su1"),
    "sha2": ("sha256h", "sha256h2", "sha256su0", "sha256su1"),
    "sha512": ("sha512h", "sha512h2", "sha512su0", "sha512su1"),
    "sha3": ("eor3", "bcax", "rax1", "xar"),
    "flagm": ("cfinv", "rmif", "setf8", "setf16"),
    "frint": ("frint32z", "frint32x", "frint64z", "frint64x"),
    "paca": ("braa", "brab", "blraa", "blrab", "retaa", "retab", "ldraa", "ldrab"),
    "mte": ("irg", "gmi", "addg", "subg", "ldg", "stg", "st2g", "stzg", "stz2g", "subp"),
    "sve": ("cntb", "cnth", "cntw", "cntd", "rdvl", "addvl", "addpl", "setffr"),
    "sme": ("smstart", "smstop", "rdsvl", "addsvl", "addspl"),
}  # fmt: skip
_EXTENSION = {name: extension for extension, names in _NAMES.items() for name in names}
_ATOMIC = re.compile(
    r"(?:cas|casp|swp|(?:ld|st)(?:add|clr|eor|set|smax|smin|umax|umin))(?:a|l|al)?[bh]?$"
)
_SVE_OPERAND = re.compile(r"\b(?:z|p)(?:[12]?\d|3[01])\b")
_SME_OPERAND = re.compile(r"\bza(?:\d+[hv]?)?\b")
_HALF = re.compile(r"\bh\d+\b|\.[48]h\b")
# These only convert halves to other widths, or move them to and from the registers.
_HALF_MOVES = ("fcvt", "fcvtl", "fcvtl2", "fcvtn", "fcvtn2")
_HALF_OTHERS = ("scvtf", "ucvtf")
# Most instructions are among these. Only their operands can need an extension, so they are
# looked at first, which saves time.
_PLAIN = frozenset(
    [
        "add",
        "sub",
        "mov",
        "movi",
        "ldr",
        "str",
        "ldp",
        "stp",
        "ldur",
        "stur",
        "ldrb",
        "strb",
        "ldrh",
        "strh",
        "ldrsw",
        "adrp",
        "adr",
        "b",
        "bl",
        "blr",
        "ret",
        "cbz",
        "cbnz",
        "tbz",
        "tbnz",
        "b.eq",
        "b.ne",
        "b.hi",
        "b.ls",
        "b.lo",
        "b.hs",
        "b.lt",
        "b.gt",
        "b.le",
        "b.ge",
        "cmp",
        "cmn",
        "subs",
        "adds",
        "ccmp",
        "and",
        "orr",
        "eor",
        "lsl",
        "lsr",
        "asr",
        "mul",
        "madd",
        "msub",
        "sdiv",
        "udiv",
        "csel",
        "cset",
        "csinc",
        "nop",
        "sxtw",
        "ubfx",
        "bfi",
        "tst",
        "neg",
        "ldrsb",
        "ldrsh",
        "mvn",
        "bic",
        "br",
        "movk",
        "umulh",
        "sbfiz",
        "ubfiz",
        "uxtb",
        "uxth",
        "umaddl",
        "smaddl",
        "cinc",
        "csetm",
        "orn",
    ]
)
_WIDE = re.compile(r"\b[zp]\d|\bza")


def extensions(mnemonic: str, operands: str) -> tuple[str, ...]:
    """The extensions that one instruction needs beyond armv8.0-a with NEON, by Linux's names.

    Args:
        mnemonic, operands: as capstone writes them.
    """
    if _SVE_OPERAND.search(operands):
        return ("sme",) if _SME_OPERAND.search(operands) else ("sve",)
    if _SME_OPERAND.search(operands):
        return ("sme",)
    found = _EXTENSION.get(mnemonic)
    half = mnemonic.startswith("f") or mnemonic in _HALF_OTHERS
    if half and mnemonic not in _HALF_MOVES and _HALF.search(operands):
        return (found, "asimdhp") if found == "fcma" else (found or "asimdhp",)
    if found is not None:
        return (found,)
    if mnemonic in ("pmull", "pmull2") and ".1q" in operands:
        return ("pmull",)
    return ("atomics",) if _ATOMIC.match(mnemonic) else ()


def count(blocks: Iterable[tuple[int, bytes]], symbols: Symbols) -> Iterator[tuple[str, str, int]]:
    """Count the instructions that armv8.0-a lacks.

    Args:
        blocks: code as (address, bytes).
        symbols: the functions, and where data lies among the code.

    Yields:
        The extension, the function, and how many of its instructions that function has.

    Raises:
        PlmEdgeError: capstone is missing.
    """
    try:
        import capstone  # type: ignore[import-untyped]
    except ImportError as error:
        raise no_library("capstone") from error
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    decoder.skipdata = True
    counts: Counter[tuple[str, str]] = Counter()
    for address, code in blocks:
        for at, _, mnemonic, operands in decoder.disasm_lite(code, address):
            if mnemonic in _PLAIN and not _WIDE.search(operands):
                continue
            for name in extensions(mnemonic, operands):
                function = symbols.at(at)
                if not function.startswith("$d"):
                    counts[name, function] += 1
    for (name, function), count in counts.items():
        yield name, function, count
