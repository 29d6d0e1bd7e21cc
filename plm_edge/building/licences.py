"""The licences of what is compiled into an engine: ours, upstream's, those of the libraries in it.

Left out is what asks for no notice: miniaudio, stb, subprocess.h, SHA-1 and SHA-256 are in the
public domain, and the C++ library's licence excepts programs that a compiler made with it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from plm_edge.building import source, tools
from plm_edge.building.target import Target

FOLDER = "licences"  # in a build, and in a packed folder
_TREE = "vendor/llama.cpp/.tree"
_SOURCES = {
    "LICENSE.plm-edge": "LICENSE",
    "LICENSE.llama.cpp": f"{_TREE}/LICENSE",
    "LICENSE.nlohmann-json": f"{_TREE}/licenses/LICENSE-jsonhpp",
    "LICENSE.cpp-httplib": f"{_TREE}/vendor/cpp-httplib/LICENSE",
    "LICENSE.xxhash": f"{_TREE}/vendor/hash/xxhash/LICENSE",
    "LICENSE.rotate-bits": f"{_TREE}/vendor/hash/rotate-bits/LICENSE.md",
}
_ZIG = {"LICENSE.zig": "LICENSE"}
_MUSL = {"LICENSE.musl": "lib/libc/musl/COPYRIGHT"}


def place(target: Target, folder: Path) -> None:
    """Copy the licences of an engine for `target` into a folder that is made.

    Raises:
        OSError: the source lacks one.
    """
    folder.mkdir(parents=True)
    root = source.root()
    found = {name: root / path for name, path in _SOURCES.items()}
    if target.compiler == "zig":  # the compiler's run time and its C library are linked in
        compiler = tools.zig().resolve().parent
        named = _ZIG | (_MUSL if target.triple.endswith("musl") else {})
        files = {name: compiler / path for name, path in named.items()}
        # a zig that is not PyPI's may lie apart from its library
        found |= {name: path for name, path in files.items() if path.is_file()}
    for name, path in found.items():
        shutil.copyfile(path, folder / name)
