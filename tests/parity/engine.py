"""Drives the engine through its C-level bindings: batches in, logits of the wanted rows out.

    engine = Engine.of_project()
    model = engine.load(path)
    with model.context(Setting(flash="on", ubatch=7)) as context:
        logits = context.decode(rows([1, 2, 3]))       # [3, vocab], float32

Nothing is decided here: each setting that a person can choose is an argument.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.engine import library
from plm_edge.engine.log import engine_log

Logits = NDArray[np.float32]
FLASH = {"auto": -1, "off": 0, "on": 1}  # llama_flash_attn_type
CACHE = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}  # ggml_type


@dataclass(frozen=True)
class Row:
    """One token of a batch. wanted: its logits are to come back."""

    token: int
    position: int
    sequence: int = 0
    wanted: bool = True


def rows(tokens: Sequence[int], start: int = 0, sequence: int = 0) -> list[Row]:
    """A run of tokens of one sequence, all wanted."""
    return [Row(token, start + i, sequence) for i, token in enumerate(tokens)]


def interleaved(sequences: Sequence[Sequence[Row]]) -> list[Row]:
    """Rows of several sequences dealt in turn, as a server's batch holds them."""
    longest = max(map(len, sequences))
    return [s[i] for i in range(longest) for s in sequences if i < len(s)]


@dataclass(frozen=True)
class Setting:
    """How a context is made. context: cells in all. unified: one cache for all sequences, or one
    stream for each. threads: 1, because the tests' cores are shared and a tiny graph spends its
    time at barriers; 2 is tested by itself."""

    flash: str = "auto"
    ubatch: int = 512
    sequences: int = 1
    unified: bool = True
    cache: str = "f16"
    threads: int = 1
    context: int = 2048
    embeddings: bool = False


class NoContextError(Exception):
    """The engine made no context, for the reason that it logged."""


class Context:
    """A llama_context. Made by `Model.context`."""

    def __init__(self, bindings: Any, handle: Any, vocab: int, hidden: int) -> None:
        self._lc, self._handle = bindings, handle
        self._vocab, self._hidden = vocab, hidden
        self._memory = bindings.llama_get_memory(handle)

    def decode(self, batch: Sequence[Row]) -> Logits:
        """Logits [wanted rows, vocab], in the order of the batch. Fails on any engine error."""
        self._decode(batch)
        wanted = [i for i, row in enumerate(batch) if row.wanted]
        logits = np.empty((len(wanted), self._vocab), np.float32)
        for at, i in enumerate(wanted):
            logits[at] = np.ctypeslib.as_array(
                self._lc.llama_get_logits_ith(self._handle, i), (self._vocab,)
            )
        return logits

    def embeddings(self, batch: Sequence[Row]) -> NDArray[np.float32]:
        """[wanted rows, hidden]: the stream after the last norm, of a context made for it."""
        self._decode(batch)
        return np.stack(
            [
                np.ctypeslib.as_array(
                    self._lc.llama_get_embeddings_ith(self._handle, i), (self._hidden,)
                ).copy()
                for i, row in enumerate(batch)
                if row.wanted
            ]
        )

    def _decode(self, batch: Sequence[Row]) -> None:
        raw = self._lc.llama_batch_init(len(batch), 0, 1)
        try:
            raw.n_tokens = len(batch)
            for i, row in enumerate(batch):
                raw.token[i], raw.pos[i] = row.token, row.position
                raw.n_seq_id[i], raw.seq_id[i][0] = 1, row.sequence
                raw.logits[i] = row.wanted
            code = self._lc.llama_decode(self._handle, raw)
        finally:
            self._lc.llama_batch_free(raw)
        assert code == 0, f"llama_decode returned {code}: {engine_log.reason()}"

    def generate(self, prompt: Sequence[int], count: int) -> list[int]:
        """The `count` greedy tokens after `prompt`, decoded one by one; sequence 0."""
        made: list[int] = []
        batch = [replace(row, wanted=False) for row in rows(prompt)]
        batch[-1] = replace(batch[-1], wanted=True)
        while len(made) < count:
            made.append(int(self.decode(batch)[-1].argmax()))
            batch = [Row(made[-1], len(prompt) + len(made) - 1)]
        return made

    def remove(self, first: int, last: int = -1, sequence: int = 0) -> None:
        """Forget positions [first, last) of a sequence; last -1: to the end."""
        assert self._lc.llama_memory_seq_rm(self._memory, sequence, first, last)

    def shift(self, first: int, by: int, sequence: int = 0) -> None:
        """Move all positions from `first` on. The keys turn at the next decode."""
        assert self._lc.llama_memory_can_shift(self._memory)
        self._lc.llama_memory_seq_add(self._memory, sequence, first, -1, by)

    def copy(self, source: int, target: int) -> None:
        self._lc.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def last_position(self, sequence: int = 0) -> int:
        return int(self._lc.llama_memory_seq_pos_max(self._memory, sequence))

    def save(self, sequence: int | None = None) -> bytes:
        """The state of the whole context, or of one sequence."""
        if sequence is None:
            size = self._lc.llama_state_get_size(self._handle)
            buffer = (ctypes.c_uint8 * size)()
            written = self._lc.llama_state_get_data(self._handle, buffer, size)
        else:
            size = self._lc.llama_state_seq_get_size(self._handle, sequence)
            buffer = (ctypes.c_uint8 * size)()
            written = self._lc.llama_state_seq_get_data(self._handle, buffer, size, sequence)
        assert written == size
        return bytes(buffer)

    def restore(self, state: bytes, sequence: int | None = None) -> None:
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if sequence is None:
            read = self._lc.llama_state_set_data(self._handle, buffer, len(state))
        else:
            read = self._lc.llama_state_seq_set_data(self._handle, buffer, len(state), sequence)
        assert read == len(state)

    def close(self) -> None:
        self._lc.llama_free(self._handle)


class Model:
    """A loaded model. Made by `Engine.load`, freed with the process."""

    def __init__(self, bindings: Any, path: Path, device: Any, gpu_layers: int) -> None:
        self._lc = bindings
        params = bindings.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        # the named device alone: a machine that has others is to test the same thing
        devices = (ctypes.c_void_p * 2)(device, None)
        params.devices = ctypes.addressof(devices)
        self._handle = bindings.llama_model_load_from_file(str(path).encode(), params)
        assert self._handle, f"{path} did not load: {engine_log.reason()}"
        self.vocab = bindings.llama_vocab_n_tokens(bindings.llama_model_get_vocab(self._handle))
        self.hidden = bindings.llama_model_n_embd(self._handle)

    @contextmanager
    def context(self, setting: Setting) -> Iterator[Context]:
        params = self._lc.llama_context_default_params()
        params.n_ctx = setting.context
        params.n_batch = setting.context
        params.n_ubatch = setting.ubatch
        params.n_seq_max = setting.sequences
        params.kv_unified = setting.unified
        params.flash_attn_type = FLASH[setting.flash]
        params.type_k = params.type_v = CACHE[setting.cache]
        params.n_threads = params.n_threads_batch = setting.threads
        params.embeddings = setting.embeddings
        handle = self._lc.llama_init_from_model(self._handle, params)
        if not handle:
            raise NoContextError(f"{setting}: {engine_log.reason()}")
        context = Context(self._lc, handle, self.vocab, self.hidden)
        try:
            yield context
        finally:
            context.close()


class Engine:
    """The engine's library, loaded once a process."""

    def __init__(self, bindings: Any) -> None:
        self._lc = bindings
        engine_log.install(bindings)
        bindings.llama_backend_init()

    @classmethod
    def of_project(cls) -> Engine:
        return cls(library.load().bindings)

    def load(self, path: Path, device: Any = None, gpu_layers: int = 0) -> Model:
        """Loads onto the CPU, or with `gpu_layers` layers on a ggml_backend_dev_t."""
        return Model(self._lc, path, device, gpu_layers)
