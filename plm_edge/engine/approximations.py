"""What the engine leaves out on purpose: lower bits of rows that squared ReLU makes zero anyway,
and exact logits of tokens that are unlikely.

What is set holds for the whole process; set it while nothing computes.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from plm_edge.engine import cpu_library

EXACT_VARIABLE = "PLM_EDGE_EXACT"
"""Environment variable: with 1 an engine approximates nothing from its start on."""


def is_exact() -> bool:
    """Says whether the environment asks for engines that approximate nothing."""
    return os.environ.get(EXACT_VARIABLE) == "1"


MARGIN = 1.0
"""Standard deviations, unless `Approximations.margin` said otherwise."""


class Approximations:
    """The switches of the loaded engine.

    Args:
        folder: where the loaded engine lies.
    """

    def __init__(self, folder: Path) -> None:
        self._lib = cpu_library.find(folder, "plm_edge_head_divergence")

    def exact(self, exact: bool) -> None:
        """Compute all that is left out otherwise."""
        if self._lib:
            self._lib.plm_edge_exact(ctypes.c_bool(exact))

    def margin(self, deviations: float) -> None:
        """Read the lower bits of rows that the upper ones do not put so many standard deviations
        below zero."""
        if self._lib:
            self._lib.plm_edge_planes_margin(ctypes.c_float(deviations))

    def divergence(self, nats: float) -> None:
        """Make so many logits exact that the others cost less KL divergence than this a token, by
        estimate; 0.0015 unless it is set."""
        if self._lib:
            self._lib.plm_edge_head_divergence(ctypes.c_float(nats))
