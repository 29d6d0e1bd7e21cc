"""Callbacks let the engine ask Python, and carry Python's exceptions past the engine's frames."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from plm_edge.engine import observe
from plm_edge.engine.options import Options


class Callbacks:
    """The C callbacks of one model and its context; the engine may call them as long as this lives.

    An exception cannot pass through C frames: it is kept, and `reraise` raises it once the call of
    the engine has returned.

    Args:
        bindings: llama-cpp-python's module (`library.Engine.bindings`).
        options: whose `stop`, `on_load` and `observer` are called.
        ggml: the engine's libggml-base; only an observer needs it.

    Attributes:
        progress: a llama_progress_callback.
        abort: a ggml_abort_callback that asks `options.stop`.
        no_abort: the null ggml_abort_callback.
        evaluate: a ggml_backend_sched_eval_callback for `options.observer`, or None without one.
        on_node: called too when `abort` is, after each node of the graph; None for nothing.
    """

    def __init__(self, bindings: Any, options: Options, ggml: ctypes.CDLL | None = None) -> None:
        self._options = options
        self._raised: BaseException | None = None
        self._loaded = 0.0
        self.progress = bindings.llama_progress_callback(self._loading)
        self.abort = bindings.ggml_abort_callback(self._asked_to_stop)
        self.no_abort = bindings.ggml_abort_callback()
        self.evaluate: Any = None
        if options.observer is not None:
            assert ggml is not None
            self.evaluate = observe.callback(bindings, ggml, options.observer, self._failed)
        self.on_node: Callable[[], None] | None = None

    def reraise(self) -> None:
        """Raise what a callback raised since the last time."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _failed(self, error: BaseException) -> None:
        self._raised = self._raised or error

    def _loading(self, share: float, _user_data: object) -> bool:
        try:
            if self._options.on_load:
                # a file that is read and then mapped counts from the beginning again
                self._loaded = max(self._loaded, share)
                self._options.on_load(self._loaded)
            return not self._options.stop()
        except BaseException as error:
            self._raised = error
            return False

    def _asked_to_stop(self, _user_data: object) -> bool:
        # Called by the engine before each node of the graph, on the calling thread: Python runs
        # pending signal handlers here, which is how Ctrl-C gets into a long prefill.
        try:
            if self.on_node is not None:
                self.on_node()
            return self._options.stop()
        except BaseException as error:
            self._raised = error
            return True


class Flag:
    """Stops a computation from another thread, between two nodes of the graph.

    No Python is called for that: the engine asks libggml itself whether a tensor is empty, which
    is of no graph, and whose first size says it.

    Attributes:
        callback: a ggml_abort_callback, to be called with `address`.
    """

    def __init__(self, bindings: Any, ggml: ctypes.CDLL) -> None:
        self._tensor = observe.Tensor(ne=(1, 1, 1, 1))
        asked = ctypes.cast(ggml.ggml_is_empty, ctypes.c_void_p)
        self.callback = bindings.ggml_abort_callback(asked.value)
        self.address = ctypes.addressof(self._tensor)

    def set(self) -> None:
        """Stop what is computed, or the next thing if nothing is."""
        self._tensor.ne[0] = 0

    def clear(self) -> None:
        """Stop nothing."""
        self._tensor.ne[0] = 1
