"""This module finds an engine for this machine that was built with its GPU's backend."""

from __future__ import annotations

from pathlib import Path

from plm_edge.building import cache
from plm_edge.engine import accelerators, library

HOST = "host"


def find() -> Path | None:
    """Returns the folder of the newest kept build for this machine with a GPU; None without one."""
    for build in cache.builds():
        if build.manifest.device == HOST and build.current and build.manifest.backend:
            return build.programs
    return None


def use() -> None:
    """Let the engine of `find` be loaded, unless the one that would be loaded has a GPU already.

    Without one nothing changes: `accelerators.require_gpu` then says what to do.

    Raises:
        PlmEdgeError: an engine without a GPU is loaded already (code USAGE).
    """
    if accelerators.has_backend(library.find()):
        return
    found = find()
    if found is not None:
        library.use(found)
