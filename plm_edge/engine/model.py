"""A model is a GGUF's weights in memory: loaded, described, and freed here."""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.callbacks import Callbacks
from plm_edge.engine.log import engine_log
from plm_edge.engine.options import Options
from plm_edge.engine.placement import Placement
from plm_edge.engine.vocabulary import Vocabulary
from plm_edge.model.gguf_file import GGUFFile

_GPU = re.compile(r"\b(CUDA|Vulkan|Metal)\d*\b")  # in what the engine says of a buffer


class Model:
    """A loaded model.

    Args:
        bindings: llama-cpp-python's module.
        header: of the file that is loaded.
        options: of which `mmap`, `repack`, `mlock`, `on_load` and `stop` matter here.
        callbacks: made of the same options; kept as long as the model.
        placement: which layers go to which devices; None leaves the engine's default.

    Attributes:
        handle: the llama_model *, for the layers of engine/ alone; None once closed.
        header: the GGUF's keys and tensors.
        vocabulary: its tokens.

    Raises:
        PlmEdgeError: the engine cannot load it (INPUT, or RESOURCES without enough memory).
        KeyboardInterrupt: `options.stop` said so while loading.
    """

    def __init__(
        self,
        bindings: Any,
        header: GGUFFile,
        options: Options,
        callbacks: Callbacks,
        placement: Placement | None = None,
    ) -> None:
        self.header = header
        self._lc, self._callbacks = bindings, callbacks
        engine_log.clear()
        bindings.llama_backend_init()
        params = bindings.llama_model_default_params()
        if placement is not None:
            params.n_gpu_layers = placement.gpu_layers
            # a list of addresses that ends in null, read while the model is loaded
            self._devices = (ctypes.c_void_p * (len(placement.devices) + 1))(*placement.devices)
            params.devices = ctypes.addressof(self._devices)
        away = placement is not None and bool(placement.devices)  # they get what was read
        params.load_mode = {
            None: bindings.LLAMA_LOAD_MODE_NONE if away else bindings.LLAMA_LOAD_MODE_AUTO,
            True: bindings.LLAMA_LOAD_MODE_MMAP,
            False: bindings.LLAMA_LOAD_MODE_NONE,
        }[options.mmap]
        params.use_extra_bufts = options.repack
        params.progress_callback = callbacks.progress
        self.handle = bindings.llama_model_load_from_file(os.fsencode(header.path), params)
        try:
            callbacks.reraise()
            if not self.handle:
                if options.stop():
                    raise KeyboardInterrupt
                raise load_error(header, "the engine cannot load")
            if bindings.llama_model_has_encoder(self.handle):
                raise PlmEdgeError(
                    f"{header.path.name} is an encoder model",
                    f"architecture {header.architecture!r} does not continue a text",
                    "use a decoder model such as PLM",
                )
        except BaseException:
            self.close()
            raise
        if options.mlock:
            _lock(bindings, self.handle)
        self.vocabulary = Vocabulary(bindings, bindings.llama_model_get_vocab(self.handle))

    @property
    def description(self) -> str:
        """The engine's line about the model: family, size, type."""
        buffer = ctypes.create_string_buffer(256)
        self._lc.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", errors="replace")

    @property
    def chat_template(self) -> str | None:
        """The model's chat template, or None for a base model."""
        template = self._lc.llama_model_chat_template(self.handle, None)
        return template.decode("utf-8", errors="replace") if template else None

    @property
    def holds_tokens_apart(self) -> bool:
        """Whether the cache can forget the last tokens of a text and nothing else: it is no state
        of all of it, and no window that has moved on."""
        bindings, handle = self._lc, self.handle
        whole = bindings.llama_model_is_recurrent(handle) or bindings.llama_model_is_hybrid(handle)
        return not whole and bindings.llama_model_n_swa(handle) == 0

    @property
    def n_ctx_train(self) -> int:
        """Tokens of context that the model was trained for."""
        return int(self._lc.llama_model_n_ctx_train(self.handle))

    def close(self) -> None:
        """Free the weights; contexts must have been closed before. Safe to call twice."""
        if self.handle:
            self._lc.llama_model_free(self.handle)
        self.handle = None


def _lock(bindings: Any, handle: Any) -> None:
    """Lock the weights in memory; `locking.require` has seen to it before that this is allowed."""
    lock = bindings._lib.plm_edge_lock_weights
    lock.restype, lock.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    lock(handle)


def load_error(header: GGUFFile, what: str) -> PlmEdgeError:
    """Returns the error of a model or a context that the engine did not make, for the reason it
    logged.

    Args:
        what: the beginning of the first line, which ends in the file's name.
    """
    reason = engine_log.reason()
    if "alloc" in reason or "out of memory" in reason:
        fewer = ", take fewer layers on the GPU (--gpu auto)" if _GPU.search(reason) else ""
        return PlmEdgeError(
            f"not enough memory for {header.path.name}",
            reason,
            f"lower --ctx or --kv{fewer}, convert to a smaller type, or close other programs",
            ExitCode.RESOURCES,
        )
    if "unknown model architecture" in reason:
        fix = "use a model of an architecture that llama.cpp knows"
    else:
        fix = "convert or get the model again; `plm-edge inspect FILE` shows what it holds"
    return PlmEdgeError(f"{what} {header.path.name}", reason or "it gave no reason", fix)
