"""`collect` takes what cmake made, and reads, strips and hashes each file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.files import sha256
from plm_edge.building import elf, licences, tools
from plm_edge.building.instructions import scan
from plm_edge.building.manifest import BuiltFile, Manifest
from plm_edge.building.target import Target

# cmake target → name of its program, where the two differ
NAMES = {"ggml-rpc-server": "rpc-server"}


@dataclass(frozen=True)
class CollectedBuild:
    """The files of a build, and what they need.

    `requires` names the features that the CPU must have (Linux's names), `glibc` is the oldest
    version that all files run with, or empty. `checked` is "read", or why they were not read.
    """

    files: tuple[BuiltFile, ...]
    requires: frozenset[str]
    glibc: str
    checked: str


def collect(
    target: Target, build_folder: Path, programs: Sequence[str], folder: Path
) -> CollectedBuild:
    """Copy what was built, and find the instructions that each file holds.

    Args:
        target: what it was built for.
        build_folder: cmake's build folder.
        programs: cmake targets.
        folder: gets a bin/ with programs and libraries side by side, and the licences.

    Raises:
        PlmEdgeError: a file is for another architecture, or cannot be read or stripped.
        OSError: cmake did not make one of the programs, or the source lacks a licence.
    """
    bin_ = folder / "bin"
    bin_.mkdir(parents=True)
    read = target.system == "Linux"
    files, requires, versions = [], set[str](), {""}
    for origin, name in [*_programs(build_folder, programs), *_libraries(target, build_folder)]:
        path = bin_ / name
        shutil.copyfile(origin, path)
        path.chmod(0o755)
        counts, guarded = {}, {}
        chosen = target.kernels == "chosen" and name.startswith("libggml-cpu-")
        if read:
            found = scan(path)
            if found.arch != target.arch:
                raise _wrong(target, f"{name} is for {found.arch}")
            counts, guarded = found.counts, found.guarded
            versions.add(found.glibc)
            requires |= set() if chosen else found.requires
        _strip(target, path)
        files.append(
            BuiltFile(f"bin/{name}", path.stat().st_size, sha256(path), counts, guarded, chosen)
        )
    licences.place(target, folder / licences.FOLDER)
    newest = max(versions, key=lambda text: [int(part) for part in text.split(".") if part])
    checked = "read" if read else f"not read: {target.system}'s programs are no ELF files"
    return CollectedBuild(tuple(files), frozenset(requires), newest, checked)


def programs_of(build: Manifest) -> set[str]:
    """The cmake targets whose programs a build holds."""
    targets = {name: target for target, name in NAMES.items()}
    names = (Path(item.path).name for item in build.files)
    return {targets.get(name, name) for name in names if not name.startswith("lib")}


def _programs(build_folder: Path, programs: Sequence[str]) -> Iterator[tuple[Path, str]]:
    for program in programs:
        yield build_folder / "bin" / program, NAMES.get(program, program)


def _libraries(target: Target, build_folder: Path) -> Iterator[tuple[Path, str]]:
    """Each library once, under the name that programs load it by."""
    if not target.shared:
        return
    suffix = ".dylib" if target.system == "Darwin" else ".so"
    for path in sorted((build_folder / "bin").glob(f"lib*{suffix}*")):
        wanted = elf.soname(path) if target.system == "Linux" else path.name
        if path.name == (wanted or path.name):
            yield path, path.name


def _strip(target: Target, path: Path) -> None:
    if target.compiler == "zig":
        elf.strip(path)
        return
    library = ".so" in path.name or path.suffix == ".dylib"
    option = "-x" if target.system == "Darwin" else "--strip-unneeded" if library else "--strip-all"
    command = [str(tools.gcc(target)["strip"]), option, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise _wrong(target, (done.stderr.strip().splitlines() or ["strip failed"])[-1])


def _wrong(target: Target, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"the engine for {target.device} was built wrong",
        why,
        "run it again with --force; if it stays so, report it with the log",
    )
