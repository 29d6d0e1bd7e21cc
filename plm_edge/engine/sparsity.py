"""The sparse kernel counts which rows of W_down it reads; this module reads its counters.

Squared ReLU makes the neurons of the other rows zero. That these are skipped can be switched off.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from plm_edge.engine import cpu_library


@dataclass(frozen=True)
class LayerRows:
    """Rows that there were in a layer, and those that were read, summed over tokens.

    Attributes:
        rows, read: of W_down.
        low_rows, low_read: of W_up in planes, in batches of up to 8 tokens: rows, and those whose
            lower bits were read. 0 where W_up is not in planes.
    """

    layer: int
    rows: int
    read: int
    low_rows: int = 0
    low_read: int = 0

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
        self._lib = cpu_library.find(folder, "plm_edge_head_get")
        if self._lib:
            self._lib.plm_edge_sparsity_get.restype = ctypes.c_bool
            self._lib.plm_edge_planes_get.restype = ctypes.c_bool

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

    def head(self) -> tuple[int, int]:
        """Returns the rows of the output matrix, and those that were read, summed over the tokens
        whose logits were computed in two stages since the last reset."""
        counts = ctypes.c_uint64(), ctypes.c_uint64()
        if self._lib:
            self._lib.plm_edge_head_get(*map(ctypes.byref, counts))
        return counts[0].value, counts[1].value

    def read(self) -> list[LayerRows]:
        """Returns the layers that were computed since the last reset; empty where nothing is
        counted."""
        if not self._lib:
            return []
        counts = [ctypes.c_uint64() for _ in range(4)]
        rows, read, low_rows, low_read = map(ctypes.byref, counts)
        found = []
        for layer in range(self._lib.plm_edge_sparsity_layers()):
            self._lib.plm_edge_sparsity_get(layer, rows, read)
            self._lib.plm_edge_planes_get(layer, low_rows, low_read)
            if counts[0].value:
                found.append(LayerRows(layer, *(count.value for count in counts)))
        return found


def low_share(layers: list[LayerRows]) -> float | None:
    """Returns the share of rows of W_up whose lower bits were read; None without planes."""
    total = sum(layer.low_rows for layer in layers)
    return sum(layer.low_read for layer in layers) / total if total else None


def zero_share(layers: list[LayerRows]) -> float | None:
    """Returns the share of zero rows over all layers; None without counts."""
    total = sum(layer.rows for layer in layers)
    return 1 - sum(layer.read for layer in layers) / total if total else None
