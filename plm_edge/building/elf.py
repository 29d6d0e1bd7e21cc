"""This module reads ELF files' code, symbols and wanted glibc, and strips programs."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError

MACHINES = {"EM_AARCH64": "aarch64", "EM_X86_64": "x86_64"}
_EXECUTABLE = 4  # SHF_EXECINSTR
_RUNNABLE = 1  # PF_X


@dataclass
class Symbols:
    """Names by address: functions, and marks for data between them. A stripped file has none."""

    starts: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def at(self, address: int) -> str:
        """The name of the function (or data mark) at an address; empty if it is not known."""
        index = bisect_right(self.starts, address) - 1
        return self.names[index] if index >= 0 else ""


@dataclass(frozen=True)
class Code:
    """A program or library.

    `arch` is its architecture as `uname -m` prints it, `blocks` its code as (address, bytes).
    `glibc` is the newest version of glibc that it asks for; empty if it asks for none.
    """

    arch: str
    blocks: tuple[tuple[int, bytes], ...]
    symbols: Symbols
    glibc: str


def read(path: Path) -> Code:
    """Read a file's code.

    Raises:
        PlmEdgeError: pyelftools is missing, or it is no ELF file for aarch64 or x86-64.
    """
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile
    except ImportError as error:
        raise no_library("pyelftools") from error
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            arch = MACHINES.get(elf["e_machine"])
            if arch is None:
                raise _wrong(path, f"its machine is {elf['e_machine']}")
            return Code(arch, tuple(_blocks(elf)), _symbols(elf), _glibc(elf))
    except (ELFError, struct.error) as error:
        raise _wrong(path, str(error) or "it ends too early") from error


def no_library(name: str) -> PlmEdgeError:
    """The error to raise for a missing Python package."""
    return PlmEdgeError(
        "a build cannot be checked: a Python package is missing",
        f"{name} is not installed",
        "pip install 'plm-edge[build]' (in a checkout: make devices)",
        ExitCode.ENVIRONMENT,
    )


def _wrong(path: Path, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{path} is no program of a device's",
        why,
        "build it again: plm-edge engine build --device NAME --force",
    )


def _blocks(elf: object) -> Iterator[tuple[int, bytes]]:
    """Yield the sections with code; in a file without sections, the executable segments."""
    found = False
    for section in elf.iter_sections():  # type: ignore[attr-defined]
        if section["sh_flags"] & _EXECUTABLE and section["sh_type"] == "SHT_PROGBITS":
            found = True
            yield section["sh_addr"], section.data()
    if not found:
        for segment in elf.iter_segments("PT_LOAD"):  # type: ignore[attr-defined]
            if segment["p_flags"] & _RUNNABLE:
                yield segment["p_vaddr"], segment.data()


def _symbols(elf: object) -> Symbols:
    """Functions, and ARM's mapping symbols $d and $x, which mark data among code."""
    table = elf.get_section_by_name(".symtab")  # type: ignore[attr-defined]
    found = {}
    for symbol in table.iter_symbols() if table else ():
        mark = symbol.name.split(".")[0] in ("$d", "$x")
        if mark or symbol["st_info"]["type"] in ("STT_FUNC", "STT_GNU_IFUNC"):
            address = symbol["st_value"]
            # A function's own name is more useful than $x; a mark for data ($d) must stay.
            if not (address in found and symbol.name.startswith("$x")):
                found[address] = symbol.name
    return Symbols(sorted(found), [found[address] for address in sorted(found)])


def _glibc(elf: object) -> str:
    section = elf.get_section_by_name(".gnu.version_r")  # type: ignore[attr-defined]
    versions = [
        name.name.removeprefix("GLIBC_")
        for _, names in (section.iter_versions() if section else ())
        for name in names
        if name.name.startswith("GLIBC_2")
    ]
    return max(versions, key=lambda text: [int(part) for part in text.split(".")], default="")


def strip(path: Path) -> None:
    """Cut off all that is never loaded: symbols, debug data, section headers.

    This suits programs only: linkers need the section headers of a library. We do it ourselves
    because zig has no strip, and its objcopy (0.17) writes no ELF file.
    """
    data = bytearray(path.read_bytes())
    offset, size, count = (
        *struct.unpack_from("<Q", data, 32),
        *struct.unpack_from("<HH", data, 54),
    )
    end = 64 + count * size
    for index in range(count):
        start, length = (
            struct.unpack_from("<Q", data, offset + index * size + 8)[0],
            struct.unpack_from("<Q", data, offset + index * size + 32)[0],
        )
        end = max(end, start + length)
    struct.pack_into("<Q", data, 40, 0)  # e_shoff
    struct.pack_into("<HH", data, 60, 0, 0)  # e_shnum, e_shstrndx
    path.write_bytes(data[:end])


def soname(path: Path) -> str:
    """The name by which programs load a library (DT_SONAME); empty if it has none."""
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if isinstance(section, DynamicSection):
                for tag in section.iter_tags("DT_SONAME"):
                    return str(tag.soname)  # type: ignore[attr-defined]
    return ""
