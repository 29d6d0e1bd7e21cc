"""This module writes a build's CMake toolchain file and the compiler scripts it names."""

from __future__ import annotations

import shlex
from pathlib import Path

from plm_edge.building import tools
from plm_edge.building.march import gcc_march
from plm_edge.building.target import Target

FILE = "toolchain.cmake"
_WRAPPER = """\
#!/bin/sh
# {note}
for argument do
    shift
    case $argument in {dropped}) ;; *) set -- "$@" "$argument" ;; esac
done
exec {command} "$@"
"""


def write(target: Target, folder: Path) -> Path:
    """Write the toolchain file and the compiler scripts.

    Args:
        target: what to build for.
        folder: gets the files. It is made if missing; older files in it are replaced.

    Returns:
        The path of the toolchain file.

    Raises:
        PlmEdgeError: a compiler is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in commands(target).items():
        path = folder / name
        if (
            not path.exists() or path.read_text() != text
        ):  # a new time stamp would make ccache and ninja start anew
            path.write_text(text)
        path.chmod(0o755)
    file = folder / FILE
    file.write_text(cmake_text(target, folder))
    return file


def commands(target: Target) -> dict[str, str]:
    """The text of the scripts cc, c++, ar and ranlib, by name.

    They are scripts because cmake tells each compiler its target in another way, and because a
    script can drop a -march of the project's own that contradicts the profile.
    """
    if target.compiler == "zig":
        zig = str(tools.zig())
        # ccache compares the scripts: another zig at the same place is another compiler
        version = tools.compiler_version(target)
        flags = ["-target", target.triple, "-g0"]
        compilers = {name: [zig, name, *flags] for name in ("cc", "c++")}
        archivers = {name: [zig, name] for name in ("ar", "ranlib")}
        note = f"{version}; the CPU is PLM_EDGE_CPU's to say: zig refuses -march"
        dropped = "-march=*"
    else:
        found = tools.gcc(target)
        compilers = {name: [str(found[name]), *_march(target)] for name in ("cc", "c++")}
        archivers = {name: [str(found[name])] for name in ("ar", "ranlib")}
        # Only a build for this very machine may use -march=native.
        note = "this machine's CPU is not the one to build for"
        dropped = "" if target.kernels == "native" else "-march=native"
    scripts = {
        name: _WRAPPER.format(note=note, dropped=dropped, command=shlex.join(command))
        if dropped
        else f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'
        for name, command in compilers.items()
    }
    return scripts | {
        name: f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n' for name, command in archivers.items()
    }


def _march(target: Target) -> list[str]:
    """gcc's -march for all files; ggml's cmake adds what its kernels need."""
    if target.kernels != "fixed" or target.system != "Linux":
        return []
    return [f"-march={gcc_march(target.arch, set(target.features))}"]


def cmake_text(target: Target, folder: Path) -> str:
    """The text of the toolchain file: system, processor and compilers.

    For a build for this machine it names no system, else cmake would treat it as a cross build.
    """
    lines = []
    if not target.here or target.compiler == "zig":
        lines += [
            f"set(CMAKE_SYSTEM_NAME {target.system})",
            f"set(CMAKE_SYSTEM_PROCESSOR {target.arch})",
            "set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)",
        ]
    lines += [
        f'set(CMAKE_C_COMPILER "{folder / "cc"}")',
        f'set(CMAKE_CXX_COMPILER "{folder / "c++"}")',
        f'set(CMAKE_AR "{folder / "ar"}" CACHE FILEPATH "")',
        f'set(CMAKE_RANLIB "{folder / "ranlib"}" CACHE FILEPATH "")',
    ]
    if not target.shared and target.compiler == "gcc":
        lines.append('set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")')
    return "\n".join(lines) + "\n"
