"""A device gets the engine build of its profile, which is made now if there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import cache, cmake, fits, manifest
from plm_edge.building.build import build
from plm_edge.building.cache import KeptBuild
from plm_edge.building.request import target_for
from plm_edge.devices.facts import Facts

PROGRAM = "bin/llama-server"
# What goes to a device: llama-server proves, runs and serves models there; plm-edge-bench is what
# `bench --device` runs.
PROGRAMS = (PROGRAM, "bin/plm-edge-bench")


def find_or_build(
    device: str,
    folder: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    program: str = PROGRAM,
) -> KeptBuild:
    """Find the engine for a device, or build it.

    Args:
        device: the name of its profile.
        folder: an engine that was built elsewhere, with its manifest.json. None takes ours: from
            the cache, or built now.
        progress: is called at each step of a build: steps done, steps in all, what.
        program: a file that the engine must have, relative to its folder.

    Raises:
        PlmEdgeError: the engine is damaged, lacks the program, or cannot be built.
    """
    if folder is not None:
        found = KeptBuild(folder, manifest.read(folder))
        manifest.verify(folder, found.manifest)
    else:
        found = _ours(device, progress)
    if not any(item.path == program for item in found.manifest.files):
        raise PlmEdgeError(
            f"the engine for {device} lacks {program.rpartition('/')[2]}",
            f"{found.folder} was built without it",
            f"build it again: plm-edge engine build --device {device} --force",
        )
    return found


def _ours(device: str, progress: Callable[[int, int, str], None] | None) -> KeptBuild:
    try:
        return build(target_for(device), progress=progress)[0]
    except cmake.BuildFailed:
        raise
    except PlmEdgeError as error:
        if error.code != ExitCode.ENVIRONMENT:
            raise
        try:  # No compiler here, but perhaps a build that was kept.
            return cache.find(target_for(device).device)
        except PlmEdgeError:
            raise error from None


def parts(engine: KeptBuild) -> list[manifest.BuiltFile]:
    """The files of an engine that go to a device: PROGRAMS, and its libraries if it has any."""
    return [
        item for item in engine.manifest.files if item.path in PROGRAMS or is_library(item.path)
    ]


def is_library(path: str) -> bool:
    """Whether a file of an engine is one of its libraries."""
    return PurePosixPath(path).name.startswith("lib")


def require_fits(engine: KeptBuild, device: str, facts: Facts) -> None:
    """Refuse an engine that a device cannot run, judged by the facts that the device reports.

    Raises:
        PlmEdgeError: the engine is for another architecture or system, or needs instructions or a
            C library that the device lacks.
    """
    fits.require_fits(
        engine.manifest, device, facts.machine, facts.features, facts.libc, facts.system
    )
