"""The C-level Python bindings of the pin: two files of llama-cpp-python, and its licence.

The package carries them, so that its installation compiles no second llama.cpp. They import each
other relatively here, so that a llama-cpp-python of the person's own is neither used nor disturbed.
"""

from __future__ import annotations

import re
from pathlib import Path

from plm_edge.base.errors import PlmEdgeError
from plm_edge.upstream import sdist, tree
from plm_edge.upstream.pin import Pin

MODULES = ("llama_cpp/llama_cpp.py", "llama_cpp/_ctypes_extensions.py")
LICENCE = "LICENSE.md"
_ABSOLUTE = re.compile(r"^(\s*from )llama_cpp(\.\w+ import )", re.MULTILINE)
_LEFT = re.compile(r"^\s*(from|import)\s+llama_cpp\b.*", re.MULTILINE)


def place(pin: Pin, target: Path) -> None:
    """Writes the bindings into the folder `target`, as a package that knows its version.

    Raises:
        PlmEdgeError: upstream cannot be fetched, or its bindings are not as this version expects.
    """
    root = pin.subtree.partition("/")[0]
    wanted = {*MODULES, LICENCE}
    found: dict[str, str] = {}
    for name, data, _ in sdist.members(sdist.fetch(pin), root):
        if name in wanted:
            found[name] = data.decode()
        if len(found) == len(wanted):
            break
    if missing := sorted(wanted - found.keys()):
        raise _unexpected(pin, f"it has no {missing[0]}")
    for name in MODULES:
        text = _ABSOLUTE.sub(r"\1\2", found[name])
        if left := _LEFT.search(text):
            raise _unexpected(pin, f"{name} says {left[0].strip()!r}")
        tree.write_text(target / Path(name).name, text)
    tree.write_text(target / LICENCE, found[LICENCE])
    tree.write_text(
        target / "__init__.py",
        f'"""Bindings of {pin.package} {pin.version} (LICENSE.md), placed here by the build."""\n\n'
        f'__version__ = "{pin.version}"\n',
    )


def _unexpected(pin: Pin, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"the bindings of {pin.package} {pin.version} cannot be used",
        why,
        "adapt plm_edge/upstream/bindings.py to this upstream version",
    )
