"""A model's states: what enters some of its layers, and what leaves the last one.

    states = States(session, [8, 16, 24])
    with states.kept(final=True):
        context.decode(batch)
        states.read(len(batch))         # [rows, 4, n_embd], float32

The engine copies them while it computes, by upstream's own hook: no logit changes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine import library
from plm_edge.engine.session import Session

# Whose graphs name their layers' inputs, and are tested here; at others' the engine may abort.
ARCHITECTURES = ("plm", "llama")


class States:
    """The states of the rows of a session's batches.

    Args:
        session: whose context computes.
        layers: numbers of layers, ascending, whose inputs are kept.

    Attributes:
        layers: as given.
        n_embd: values of a state.

    Raises:
        PlmEdgeError: the architecture names no layer inputs, or there is no such layer.
    """

    def __init__(self, session: Session, layers: Sequence[int]) -> None:
        header = session.header
        if header.architecture not in ARCHITECTURES:
            raise PlmEdgeError(
                f"{header.path.name} does not show its states",
                f"the engine's graph of {header.architecture} does not name what enters a layer",
                f"take a model of one of these: {', '.join(ARCHITECTURES)}",
            )
        self.layers, self._session = tuple(layers), session
        self.n_embd = int(header.arch_key("embedding_length"))
        engine = library.load()
        self._lc, handle = engine.bindings, ctypes.c_void_p(session.context.handle)
        self._handle = handle
        self._keep = engine.llama.plm_edge_keep_layer_input
        self._keep.restype = ctypes.c_bool
        self._keep.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_bool]
        self._input = engine.llama.plm_edge_layer_input
        self._input.restype = ctypes.POINTER(ctypes.c_float)
        self._input.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        self._final = False
        for layer in self.layers:
            if not self._keep(handle, layer, True):
                raise PlmEdgeError(
                    f"{header.path.name} has no layer {layer}",
                    f"it has {header.arch_key('block_count')}, counted from 0",
                    "name layers that it has",
                )

    @contextmanager
    def kept(self, *, final: bool = True) -> Iterator[None]:
        """While it is open, the final state is kept as well, after the last norm.

        The engine then computes logits of every row of a batch: at most `Options.max_outputs`.
        """
        self._lc.llama_set_embeddings(self._session.context.handle, final)
        self._final = final
        try:
            yield
        finally:
            self._lc.llama_set_embeddings(self._session.context.handle, False)
            self._final = False

    def read(self, rows: int) -> NDArray[np.float32]:
        """Returns a copy, [rows, layers and maybe the final one, n_embd], of the last batch.

        Args:
            rows: of the last batch; within `kept(final=True)` all of them had logits.
        """
        pointers = [self._input(self._handle, layer) for layer in self.layers]
        if self._final:
            found = self._lc.llama_get_embeddings(self._session.context.handle)
            pointers.append(ctypes.cast(found, ctypes.POINTER(ctypes.c_float)))
        made = np.empty((rows, len(pointers), self.n_embd), np.float32)
        for index, pointer in enumerate(pointers):
            made[:, index] = np.ctypeslib.as_array(pointer, (rows, self.n_embd))
        return made
