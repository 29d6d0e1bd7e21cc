"""An observer sees the engine's intermediate results: one node of the graph after the other.

    class Norms(Observer):
        def wants(self, node):
            return node.op == "MUL_MAT"
        def take(self, node):
            print(node.name, np.square(node.source(1).values()).mean())

    Session.open(path, Options(observer=Norms()))

The engine then computes up to each wanted node and waits; nothing of the result changes.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_DIMS, _SOURCES, _NAME = 4, 10, 64


class Tensor(ctypes.Structure):
    """struct ggml_tensor of the pinned ggml.h; the engine's tree is compared with the pin when it
    is loaded (library.py), so this cannot be another one's."""


_Pointer = ctypes.POINTER(Tensor)
Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * _DIMS),
    ("nb", ctypes.c_size_t * _DIMS),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", _Pointer * _SOURCES),
    ("view_src", _Pointer),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * _NAME),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


class Node:
    """A tensor of the graph that is being computed; valid within `wants` and `take` alone."""

    def __init__(self, ggml: ctypes.CDLL, raw: Any) -> None:
        self._ggml, self._raw = ggml, raw

    @property
    def name(self) -> str:
        """As the graph names it, such as "ffn_up-3"; of a weight its name in the file."""
        return bytes(self._raw.name).decode("utf-8", "replace")

    @property
    def op(self) -> str:
        """The operation that made it, such as MUL_MAT; NONE for a weight."""
        return _op_name(self._ggml, self._raw.op)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Its sizes as ggml counts them, the one that lies together first."""
        ne = self._raw.ne
        return ne[0], ne[1], ne[2], ne[3]

    @property
    def parameter(self) -> int:
        """The operation's first parameter."""
        return int(self._raw.op_params[0])

    def source(self, index: int) -> Node | None:
        """Returns what the operation was given at this place, or None."""
        found = self._raw.src[index]
        return Node(self._ggml, found.contents) if found else None

    def values(self) -> NDArray[np.float32]:
        """Returns a copy, [shape reversed]: the axis that lies together is the last.

        Raises:
            ValueError: it is not of float32, or its rows do not lie together.
        """
        raw = self._raw
        if raw.type != 0 or raw.nb[0] != 4:
            raise ValueError(f"{self.name} has no rows of float32")
        # From the first to the last byte, gaps between rows included; wherever it lies.
        span = 4 + sum((size - 1) * step for size, step in zip(raw.ne, raw.nb, strict=True))
        buffer = np.empty(span // 4, np.float32)
        get = self._ggml.ggml_backend_tensor_get
        get.restype, get.argtypes = (
            None,
            [_Pointer, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t],
        )
        get(ctypes.byref(raw), buffer.ctypes.data, 0, span)
        return np.lib.stride_tricks.as_strided(
            buffer, tuple(reversed(raw.ne)), tuple(reversed(raw.nb)), writeable=False
        )


class Observer(Protocol):
    """Who wants to see intermediate results. What it raises ends the computation, and reaches the
    caller of `Context.decode`."""

    def wants(self, node: Node) -> bool:
        """Says whether `take` shall be called once the node is computed. Its values are not there
        yet."""
        ...

    def take(self, node: Node) -> None:
        """Called with the node's values, and those that it was made of."""
        ...


def callback(
    bindings: Any, ggml: ctypes.CDLL, observer: Observer, failed: Callable[[BaseException], None]
) -> Any:
    """Returns the ggml_backend_sched_eval_callback that calls an observer.

    Args:
        ggml: the engine's libggml-base.
        failed: called with what the observer raised; the engine then stops computing.
    """

    def called(pointer: int, ask: bool, _user_data: object) -> bool:
        try:
            node = Node(ggml, ctypes.cast(pointer, _Pointer).contents)
            if ask:
                return observer.wants(node)
            observer.take(node)
            return True
        except BaseException as error:
            failed(error)
            return False

    return bindings.ggml_backend_sched_eval_callback(called)


@functools.cache
def _op_name(ggml: ctypes.CDLL, op: int) -> str:
    ggml.ggml_op_name.restype = ctypes.c_char_p
    return str(ggml.ggml_op_name(op).decode())
