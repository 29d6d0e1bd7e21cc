"""Engines for other CPUs: compiled once for all tests, and kept in build/test-cache.

For rpi5 there is everything that a person builds; for the others plm-edge-bench: upstream's tools
are three quarters of what compiling costs.
"""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from pathlib import Path

import pytest

from plm_edge.building import build, gpu, tools
from plm_edge.building.cache import KeptBuild
from plm_edge.building.target import target_of
from plm_edge.devices.detect import profile_by_name
from plm_edge.devices.profiles.profile import find
from testkit.checkout import ROOT

ENGINES = ROOT / "build/test-cache"
PROBE = "plm-edge-bench"  # generates, and needs the libraries alone


@functools.cache
def engine(device: str) -> KeptBuild:
    """The engine for a profile's device."""
    programs = build.PROGRAMS if device == "rpi5" else (PROBE,)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(ENGINES))
        return build.build(target_of(find(device)), programs)[0]


@functools.cache
def vulkan() -> Path:
    """libggml-vulkan.so for this machine: configured as a build with Vulkan, that library made.

    Raises:
        PlmEdgeError: its shader compiler or headers are missing.
    """
    made = target_of(profile_by_name("host"), gpu=False)
    settings = (*made.settings, ("GGML_VULKAN", "ON"))
    made = dataclasses.replace(made, backend="vulkan", settings=settings)
    folder = ENGINES / "vulkan"
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(ENGINES))
        configured = build.configure(made, (), gpu.settings(made), folder)
    ninja = [str(tools.build_tool("ninja")), "-C", str(configured), "ggml-vulkan"]
    done = subprocess.run(ninja, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    return configured / "bin/libggml-vulkan.so"
