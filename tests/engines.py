"""Engines for other CPUs: compiled once for all tests, and kept in build/test-cache.

For rpi5 there is everything that a person builds, and the kernels' tests; for the others those and
the probe: upstream's tools are three quarters of what compiling costs.
"""

from __future__ import annotations

import functools

import pytest

from plm_edge.building import build
from plm_edge.building.cache import Kept
from plm_edge.building.target import target_of
from plm_edge.fleet.profile import find
from tests.conftest import ROOT

ENGINES = ROOT / "build/test-cache"
KERNELS = ("test-plm-sparse-t", "test-plm-mla")
PROBE = "plm-edge-probe"  # generates, and needs the libraries alone


@functools.cache
def engine(device: str) -> Kept:
    """The engine for a profile's device."""
    programs = (*build.PROGRAMS, *KERNELS) if device == "rpi5" else (PROBE, *KERNELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(ENGINES))
        return build.build(target_of(find(device)), programs)[0]
