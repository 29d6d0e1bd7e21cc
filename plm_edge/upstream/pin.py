"""PIN.toml says which version of upstream we build on, and what the patched tree must hash to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Pin:
    """PIN.toml: upstream's source distribution, and the tree that overlay and patches make."""

    package: str
    version: str
    file: str  # the source distribution's name
    sha256: str  # of that file
    subtree: str  # llama.cpp inside it
    tree: str  # `tree.tree_hash` of the patched tree

    @staticmethod
    def read(folder: Path) -> Pin:
        """Reads the PIN.toml of a folder.

        Raises:
            OSError: there is none.
        """
        data = tomllib.loads((folder / "PIN.toml").read_text(encoding="utf-8"))
        keys = ("package", "version", "file", "sha256", "subtree")
        return Pin(**{key: data["upstream"][key] for key in keys}, tree=data["result"]["tree"])
