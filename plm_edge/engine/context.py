"""A context computes: batches in, logits out, with the cache of what was computed before.

    batch = context.batch()
    batch.extend(prompt, position=0)
    context.decode(batch)
    context.row_logits()                # [n_vocab], float32, of the last wanted row

This is the one place that calls llama_decode and llama_memory_*.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.batch import Batch
from plm_edge.engine.callbacks import Callbacks, Flag
from plm_edge.engine.grammar import Grammar
from plm_edge.engine.kv_report import kv_report
from plm_edge.engine.log import KVReport, engine_log
from plm_edge.engine.model import Model, load_error
from plm_edge.engine.options import FLASH_NUMBERS, KV_NUMBERS, Options
from plm_edge.engine.sampler import Sampler

Logits = NDArray[np.float32]
ALL = -1  # every sequence, or up to a sequence's end
_NO_ROOM, _ABORTED, _NO_MEMORY = 1, 2, -2  # what llama_decode returns


class Context:
    """A llama_context of a model: its KV cache, and the memory that it computes in.

    Args:
        bindings: llama-cpp-python's module.
        library: libllama, for what the module lacks.
        model: must outlive the context.
        options: all but those that say how the file is loaded.
        n_ctx: tokens of context, of all sequences together.
        threads: that compute.
        callbacks: made of the same options; kept as long as the context.

    Attributes:
        n_ctx: tokens of context as asked for (the engine pads its cache to 256 cells).
        n_batch: most rows in one call of `decode` or `append`.
        n_vocab: logits of a row.
        kv: the cache's sizes as the engine says, or None when the model has none.
        compute_bytes: bytes of the buffers that it computes in.
        n_changes: counts what changed the cache, by this class.

    Raises:
        PlmEdgeError: the engine cannot make it (INPUT, or RESOURCES without enough memory).
    """

    def __init__(
        self,
        bindings: Any,
        library: ctypes.CDLL,
        model: Model,
        options: Options,
        *,
        n_ctx: int,
        threads: int,
        callbacks: Callbacks,
    ) -> None:
        self._lc, self._llama, self._callbacks = bindings, library, callbacks
        params = bindings.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = min(options.n_ubatch, n_ctx)
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = FLASH_NUMBERS[options.flash_attn]
        # A latent cache holds K alone, and the engine insists that V's unused type is the same.
        params.type_k = params.type_v = KV_NUMBERS[options.kv]
        params.n_outputs_max = options.max_outputs
        params.n_seq_max = options.n_seq_max
        if callbacks.evaluate is not None:
            params.cb_eval = callbacks.evaluate
        self._vocabulary = model.vocabulary
        self._handle = bindings.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise load_error(model.header, "the engine cannot make a context for")
        self._memory = bindings.llama_get_memory(self._handle)
        self.n_ctx = min(n_ctx, int(bindings.llama_n_ctx(self._handle)))
        self.n_batch = int(bindings.llama_n_batch(self._handle))
        self.n_vocab = model.vocabulary.n_tokens
        self.kv: KVReport | None = kv_report(
            engine_log, model.header, options.kv, options.n_seq_max
        )
        self.compute_bytes = engine_log.compute_bytes()
        self._abortable: bool | Flag | None = None  # what the engine was told last
        self.n_changes = 0
        self._n_wanted = 0  # rows of the last batch that have logits
        self.full_logits(options.full_logits)
        self._one = (ctypes.c_int32 * 1)()
        self._next = bindings.llama_batch_get_one(self._one, 1)
        self._last = self._next  # what was computed last

    @property
    def handle(self) -> Any:
        """The llama_context *, for engine/ alone; None once closed."""
        return self._handle

    # Computing

    def batch(self, capacity: int | None = None) -> Batch:
        """Returns an empty batch for this context.

        Args:
            capacity: most rows; None: `n_batch`.
        """
        return Batch(self._lc, self.n_batch if capacity is None else capacity)

    def decode(self, batch: Batch, *, abortable: bool | Flag = False) -> bool:
        """Compute a batch. False when `Options.stop`, or the flag, stopped it on the way.

        Args:
            batch: at most `n_batch` rows; each position follows what its sequence has in the cache.
            abortable: ask `Options.stop` meanwhile. That costs a Python call for each node of the
                graph: nothing beside a prefill, several percent of a small model's decode step.
                A flag costs nothing, and is looked at in place of `Options.stop`.

        Raises:
            PlmEdgeError: the engine cannot (RESOURCES: no room in the cache or in memory).
        """
        self._n_wanted = batch.n_wanted
        self._last = batch.raw
        return self._compute(batch.raw, abortable)

    def append(
        self,
        tokens: Sequence[int],
        *,
        abortable: bool = False,
        on_node: Callable[[], None] | None = None,
    ) -> bool:
        """Compute `tokens` after what sequence 0 has in the cache; the last one has logits.

        As `decode` otherwise. One token costs no allocation: this is the step of a generation.

        Args:
            on_node: called after each node of the graph, if `abortable`: how far it is.
        """
        self._n_wanted = 1
        self._callbacks.on_node = on_node
        if len(tokens) == 1:
            self._one[0] = tokens[0]
            self._last = self._next
            return self._compute(self._next, abortable)
        self._many = (ctypes.c_int32 * len(tokens))(*tokens)  # the batch has but its address
        self._last = self._lc.llama_batch_get_one(self._many, len(tokens))
        return self._compute(self._last, abortable)

    def _compute(self, raw: Any, abortable: bool | Flag) -> bool:
        if abortable != self._abortable:
            callback, about = self._callbacks.no_abort, None
            if isinstance(abortable, Flag):
                callback, about = abortable.callback, abortable.address
            elif abortable:
                callback = self._callbacks.abort
            self._lc.llama_set_abort_callback(self._handle, callback, about)
            self._abortable = abortable
        self.n_changes += 1
        status = self._lc.llama_decode(self._handle, raw)
        self._callbacks.reraise()
        if status == 0:
            self._lc.llama_synchronize(self._handle)
            return True
        if status == _ABORTED:
            return False
        raise PlmEdgeError(
            "the engine could not compute the next tokens",
            engine_log.reason() or f"llama_decode returned {status}",
            "give it fewer tokens or sequences at once, or a larger context"
            if status == _NO_ROOM
            else "lower --ctx if memory is short; else run again with --debug and report it",
            ExitCode.RESOURCES if status in (_NO_ROOM, _NO_MEMORY) else ExitCode.INTERNAL,
        )

    # What was computed

    def logits(self) -> Logits:
        """Returns [wanted rows, n_vocab] of the last batch, in its order.

        A view of the engine's buffer: the next call of `decode` or `append` overwrites it.
        """
        pointer = ctypes.cast(self._lc.llama_get_logits(self._handle), _FLOATS)
        return np.ctypeslib.as_array(pointer, (self._n_wanted, self.n_vocab))

    def full_logits(self, full: bool) -> None:
        """Say whether from the next batch on every logit is exact, as it is unless this was called.

        With False those that hardly count may be coarse, where the model's output matrix has a
        coarse form (converters/head): enough to pick the next token.
        """
        self._llama.plm_edge_full_logits(ctypes.c_void_p(self._handle), ctypes.c_bool(full))

    def again_in_full(self) -> bool:
        """Make every logit of the last batch exact; it was a run of sequence 0.

        Only where `Model.holds_tokens_apart`. The rows keep their numbers.

        Returns:
            Whether the output matrix alone was multiplied again, and not the whole batch.

        Raises:
            PlmEdgeError: as of `decode`.
        """
        self.full_logits(True)
        exact = self._llama.plm_edge_exact_row
        exact.restype = ctypes.c_bool
        handle, rows = ctypes.c_void_p(self._handle), range(1, self._n_wanted + 1)
        if all(exact(handle, ctypes.c_int32(-row)) for row in rows):
            return True
        self.remove(0, self.length() - self._last.n_tokens)
        self._compute(self._last, abortable=False)
        return False

    def row_logits(self, row: int = -1) -> Logits:
        """Returns [n_vocab] of one row of the last batch; a view as that of `logits`.

        Args:
            row: its number in the batch; its logits were wanted. -1: the last wanted one.

        Raises:
            IndexError: no logits were wanted of it.
        """
        found = self._lc.llama_get_logits_ith(self._handle, row)
        if not found:
            raise IndexError(f"row {row} has no logits")
        return np.ctypeslib.as_array(ctypes.cast(found, _FLOATS), (self.n_vocab,))

    def sampler(
        self,
        *,
        temp: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
        grammar: str = "",
        on_refusal: Callable[[], None] | None = None,
    ) -> Sampler:
        """Returns a sampler over this context's logits, to be closed before the context.

        Args:
            temp: temperature; 0 picks the likeliest token (greedy) and ignores the rest.
            top_k: keep this many of the likeliest tokens; 0 keeps all.
            top_p: keep the likeliest tokens that hold this share of the probability; 1 keeps all.
            min_p: drop tokens less likely than this share of the likeliest one; 0 drops none.
            seed: of the random numbers, 0 to 2³² - 2.
            grammar: GBNF that the text obeys; empty for none.
            on_refusal: called when the grammar refuses what the model likes best, before other
                logits of the row are looked at: it may compute them again.

        Raises:
            PlmEdgeError: the grammar is broken (code USAGE).
        """
        return Sampler(
            self._lc,
            self._handle,
            self.row_logits,
            temp=temp,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            grammar=Grammar(self._lc, self._vocabulary, grammar) if grammar else None,
            on_refusal=on_refusal,
        )

    # The cache

    def clear(self) -> None:
        """Forget all sequences."""
        self.n_changes += 1
        self._lc.llama_memory_clear(self._memory, False)

    def remove(self, sequence: int, start: int = 0, end: int = ALL) -> None:
        """Forget the positions `start` to before `end` of a sequence.

        Args:
            sequence: ALL: of every sequence.
            end: ALL: up to the sequence's end.

        Raises:
            PlmEdgeError: this model keeps a state that cannot forget a part of a sequence.
        """
        self.n_changes += 1
        if not self._lc.llama_memory_seq_rm(self._memory, sequence, start, end):
            raise PlmEdgeError(
                "this model's cache cannot forget a part of a text",
                f"positions {start} to {'the end' if end == ALL else end} stay in its state",
                "use a model whose cache holds each token apart, such as PLM",
            )

    def copy(self, source: int, target: int) -> None:
        """Let the sequence `target` hold what `source` does, without computing it again."""
        self.n_changes += 1
        self._lc.llama_memory_seq_cp(self._memory, source, target, ALL, ALL)

    def length(self, sequence: int = 0) -> int:
        """Returns the position at which a sequence goes on: 0 when the cache holds none of it."""
        return int(self._lc.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def first(self, sequence: int = 0) -> int:
        """Returns the first position that the cache still holds of a sequence, -1 for none.

        It is above 0 where the model looks at the last tokens alone, and has forgotten others.
        """
        return int(self._lc.llama_memory_seq_pos_min(self._memory, sequence))

    def save(self, sequence: int = 0) -> bytes:
        """Returns what the cache holds of a sequence, for `restore` into a context of the same
        kind."""
        size = self._lc.llama_state_seq_get_size(self._handle, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = self._lc.llama_state_seq_get_data(self._handle, buffer, size, sequence)
        return bytes(memoryview(buffer)[:written])

    def restore(self, state: bytes, sequence: int = 0) -> None:
        """Replace a sequence by one that was saved: same model, same type of cache.

        The logits are not part of it: compute the last token again where they are needed.

        Raises:
            ValueError: it is damaged, of another kind of context, or larger than this one.
        """
        self.n_changes += 1
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        read = self._lc.llama_state_seq_set_data(self._handle, buffer, len(state), sequence)
        if not read or read != len(state):
            raise ValueError("the saved state does not fit this context")

    def close(self) -> None:
        """Free it. Safe to call twice."""
        if self._handle:
            self._lc.llama_free(self._handle)
        self._handle = None


_FLOATS = ctypes.POINTER(ctypes.c_float)
