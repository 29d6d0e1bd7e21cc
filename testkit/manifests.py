"""Builds that were never made, for what only reads their manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plm_edge.base.files import sha256
from plm_edge.building.manifest import BuiltFile, Manifest
from plm_edge.engine import library

A76 = ("asimddp", "asimdhp", "atomics", "lrcpc")


def manifest(**changed: Any) -> Manifest:
    """A build for rpi5, with what is changed."""
    values: dict[str, Any] = {
        "device": "rpi5", "key": "0123456789abcdef", "arch": "aarch64", "system": "Linux",
        "triple": "aarch64-linux-gnu.2.36", "cpu": "cortex_a76", "linkage": "static",
        "compiler": "zig 0.17.0", "kernels": "fixed", "backend": "", "version": "0.1.0",
        "pin": "llama-cpp-python 0.3.36", "tree": library.read_pin().tree, "settings": {},
        "requires": A76, "glibc": "2.34", "checked": "read", "files": (), "seconds": 1.0,
    }  # fmt: skip
    return Manifest(**(values | changed))


def kept(cache: Path, **changed: Any) -> Path:
    """Such a build in a cache, with one program."""
    made = manifest(**changed)
    folder = cache / "engines" / f"{made.device}-{made.key[:12]}"
    program = folder / "bin/llama-bench"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"program")
    file = BuiltFile("bin/llama-bench", 7, sha256(program), {}, {})
    manifest(**(changed | {"files": (file,)})).write(folder)
    return folder
