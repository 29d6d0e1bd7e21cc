"""The sparse kernel counts which rows of W_down it reads; this module reads its counters.

Squared ReLU makes the neurons of the other rows zero. That these are skipped can be switched off.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


@dataclass(frozen=True)
class LayerRows:
    """Rows that there were in a layer, and those that were read, summed over tokens."""

    layer: int
    rows: int
    read: int

    @property
    def zeros(self) -> float:
        """Share of rows whose activation was zero, 0 to 1."""
        return 1 - self.read / self.rows


class RowCounts:
    """The counters of the loaded engine. A layout or an engine without the sparse kernel has none.

    Args:
        folder: where the loaded libggml-cpu lies.
    """

    def __init__(self, folder: Path) -> None:
        self._lib: ctypes.CDLL | None
        try:
            self._lib = ctypes.CDLL(str(folder / f"libggml-cpu{_SUFFIX}"))
            self._lib.plm_edge_sparsity_get.restype = ctypes.c_bool
        except (OSError, AttributeError):
            self._lib = None

    def reset(self) -> None:
        """Forget what was counted."""
        if self._lib:
            self._lib.plm_edge_sparsity_reset()

    def skip(self, zeros: bool) -> None:
        """Skip rows of zero neurons, as the engine does unless it is told not to.

        It holds for the whole process; call it while nothing computes.
        """
        if self._lib:
            self._lib.plm_edge_sparsity_skip(ctypes.c_bool(zeros))

    def read(self) -> list[LayerRows]:
        """Returns the layers that were computed since the last reset; empty where nothing is
        counted."""
        if not self._lib:
            return []
        rows, read = ctypes.c_uint64(), ctypes.c_uint64()
        found = []
        for layer in range(self._lib.plm_edge_sparsity_layers()):
            self._lib.plm_edge_sparsity_get(layer, ctypes.byref(rows), ctypes.byref(read))
            if rows.value:
                found.append(LayerRows(layer, rows.value, read.value))
        return found


def zero_share(layers: list[LayerRows]) -> float | None:
    """Returns the share of zero rows over all layers; None without counts."""
    total = sum(layer.rows for layer in layers)
    return 1 - sum(layer.read for layer in layers) / total if total else None
