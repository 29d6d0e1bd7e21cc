"""ggml's CPU backend by ctypes, as far as timing its matrix products needs it.

Pointers to ggml's objects are plain addresses here (int); nothing of ours reads what they point to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from plm_edge.engine import library
from plm_edge.model import gguf_file

_CPU = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
_F32 = 0  # GGML_TYPE_F32
_TYPES = {name: number for number, (name, _, _) in gguf_file.TENSOR_TYPES.items()}
_P, _N, _Z, _I = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_int64
_F = ctypes.c_float


class _Parameters(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (("mem_size", _Z), ("mem_buffer", _P), ("no_alloc", ctypes.c_bool))


# name: what it returns, then what it takes
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "ggml_init": (_P, _Parameters),
    "ggml_free": (None, _P),
    "ggml_tensor_overhead": (_Z,),
    "ggml_graph_overhead_custom": (_Z, _Z, ctypes.c_bool),
    "ggml_new_tensor_2d": (_P, _P, _N, _I, _I),
    "ggml_new_tensor_4d": (_P, _P, _N, _I, _I, _I, _I),
    "ggml_view_4d": (_P, _P, _P, _I, _I, _I, _I, _Z, _Z, _Z, _Z),
    "ggml_mul_mat": (_P, _P, _P, _P),
    "ggml_flash_attn_ext": (_P, _P, _P, _P, _P, _P, _F, _F, _F),
    "ggml_new_graph_custom": (_P, _P, _Z, ctypes.c_bool),
    "ggml_build_forward_expand": (None, _P, _P),
    "ggml_nbytes": (_Z, _P),
    "ggml_log_set": (None, _P, _P),
    "ggml_backend_dev_by_type": (_P, _N),
    "ggml_backend_dev_init": (_P, _P, ctypes.c_char_p),
    "ggml_backend_dev_backend_reg": (_P, _P),
    "ggml_backend_dev_buffer_type": (_P, _P),
    "ggml_backend_dev_supports_op": (ctypes.c_bool, _P, _P),
    "ggml_backend_reg_get_proc_address": (_P, _P, ctypes.c_char_p),
    "ggml_backend_alloc_ctx_tensors": (_P, _P, _P),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_P, _P, _P),
    "ggml_backend_buffer_clear": (None, _P, ctypes.c_uint8),
    "ggml_backend_buffer_free": (None, _P),
    "ggml_backend_tensor_set": (None, _P, _P, _Z, _Z),
    "ggml_backend_graph_compute": (_N, _P, _P),
    "ggml_backend_free": (None, _P),
}
_Log = ctypes.CFUNCTYPE(None, _N, ctypes.c_char_p, _P)
_SetThreads = ctypes.CFUNCTYPE(None, _P, _N)
_ExtraBuffers = ctypes.CFUNCTYPE(ctypes.POINTER(_P), _P)


class Cpu:
    """The backend with so many threads.

    Raises:
        PlmEdgeError: there is no engine, or it does not load.
    """

    def __init__(self, threads: int) -> None:
        engine = library.load()
        engine.bindings.llama_backend_init()
        shared = ctypes.CDLL(str(next(engine.folder.glob("libggml.*"))))
        self._f: dict[str, Any] = {}
        for name, (returns, *takes) in _FUNCTIONS.items():
            holder = engine.ggml if hasattr(engine.ggml, name) else shared
            function = getattr(holder, name)
            function.restype, function.argtypes = returns, takes
            self._f[name] = function
        self._silent = _Log(lambda level, text, data: None)  # kept: ggml calls it
        self._f["ggml_log_set"](self._silent, None)
        self._device = self._f["ggml_backend_dev_by_type"](_CPU)
        self._backend = self._f["ggml_backend_dev_init"](self._device, None)
        registry = self._f["ggml_backend_dev_backend_reg"](self._device)
        find = self._f["ggml_backend_reg_get_proc_address"]
        _SetThreads(find(registry, b"ggml_backend_set_n_threads"))(self._backend, threads)
        self._places: list[int] = []  # kinds of buffers, the loader's first choice first
        extra = find(registry, b"ggml_backend_dev_get_extra_bufts")
        listed = _ExtraBuffers(extra)(self._device) if extra else None
        while listed and listed[len(self._places)]:
            self._places.append(int(listed[len(self._places)] or 0))
        self._places.append(self._f["ggml_backend_dev_buffer_type"](self._device))

    def close(self) -> None:
        self._f["ggml_backend_free"](self._backend)

    @contextmanager
    def products(
        self, kind: str, columns: int, rows: int, nodes: int = 1
    ) -> Iterator[tuple[int, Callable[[], None]]]:
        """A graph of `nodes` products of one matrix [rows, columns] of zeros with one vector.

        The matrix lies where the loader would put it: repacked where a kernel takes it so.

        Yields:
            The matrix's bytes, and a function that computes the graph once.
        """
        f = self._f
        size = 64 * f["ggml_tensor_overhead"]()
        for place in self._places:
            held = f["ggml_init"](_Parameters(size, None, True))
            matrix = f["ggml_new_tensor_2d"](held, _TYPES[kind], columns, rows)
            buffer = f["ggml_backend_alloc_ctx_tensors_from_buft"](held, place)
            context = f["ggml_init"](
                _Parameters(
                    (nodes + 8) * f["ggml_tensor_overhead"]()
                    + f["ggml_graph_overhead_custom"](nodes + 8, False), None, True,
                )
            )  # fmt: skip
            vector = f["ggml_new_tensor_2d"](context, _F32, columns, 1)
            made = [f["ggml_mul_mat"](context, matrix, vector) for _ in range(nodes)]
            if place == self._places[-1] or f["ggml_backend_dev_supports_op"](
                self._device, made[0]
            ):
                break
            for drop, what in (
                ("ggml_backend_buffer_free", buffer), ("ggml_free", context), ("ggml_free", held)
            ):  # fmt: skip
                f[drop](what)
        graph = f["ggml_new_graph_custom"](context, nodes + 8, False)
        for node in made:
            f["ggml_build_forward_expand"](graph, node)
        values = f["ggml_backend_alloc_ctx_tensors"](context, self._backend)
        n_bytes = f["ggml_nbytes"](matrix)
        try:
            f["ggml_backend_buffer_clear"](values, 0)
            if place == self._places[-1]:
                f["ggml_backend_buffer_clear"](buffer, 0)  # each page is touched
            else:
                f["ggml_backend_tensor_set"](matrix, bytes(n_bytes), 0, n_bytes)
            yield n_bytes, lambda: f["ggml_backend_graph_compute"](self._backend, graph)
        finally:
            for one in (values, buffer):
                f["ggml_backend_buffer_free"](one)
            for one in (context, held):
                f["ggml_free"](one)

    @contextmanager
    def attention(
        self, kind: str, row: int, latent: int, heads: int, cached: int, nodes: int
    ) -> Iterator[Callable[[], None]]:
        """A graph of `nodes` latent attentions of one token over `cached` rows of `row` values of a
        type, whose first `latent` are the values; yields a function that computes it once."""
        f = self._f
        size = (2 * nodes + 8) * f["ggml_tensor_overhead"]()
        size += f["ggml_graph_overhead_custom"](2 * nodes + 8, False)
        context = f["ggml_init"](_Parameters(size, None, True))
        query = f["ggml_new_tensor_4d"](context, _F32, row, 1, heads, 1)
        keys = f["ggml_new_tensor_4d"](context, _TYPES[kind], row, cached, 1, 1)
        stride = gguf_file.type_bytes(kind, row)
        values = f["ggml_view_4d"](
            context, keys, latent, cached, 1, 1, stride, stride * cached, stride * cached, 0
        )
        graph = f["ggml_new_graph_custom"](context, 2 * nodes + 8, False)
        for _ in range(nodes):
            made = f["ggml_flash_attn_ext"](context, query, keys, values, None, 0.05, 0.0, 0.0)
            f["ggml_build_forward_expand"](graph, made)
        buffer = f["ggml_backend_alloc_ctx_tensors"](context, self._backend)
        try:
            f["ggml_backend_buffer_clear"](buffer, 0)
            yield lambda: f["ggml_backend_graph_compute"](self._backend, graph)
        finally:
            f["ggml_backend_buffer_free"](buffer)
            f["ggml_free"](context)
