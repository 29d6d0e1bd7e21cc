"""Load a model into the engine, generate text, and count what it took.

    with Session.open(Path("model.gguf")) as session:
        generation = session.generate(session.tokenize("def add(a, b):"), n_predict=32)
        for text in generation:
            print(text, end="", flush=True)
        print(generation.stats)

Built on the bindings' C-level functions: the figures are then exactly the time between two calls
of the engine, and nothing stands between Ctrl-C and the computation.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import library, memory
from plm_edge.engine.generation import Generation
from plm_edge.engine.log import KVReport, engine_log
from plm_edge.engine.reported import kv_report
from plm_edge.engine.sampling import Sampling
from plm_edge.engine.sparsity import RowCounts
from plm_edge.machine.threads import default_threads
from plm_edge.model import gguf_file

DEFAULT_CTX = 4096  # PLM's own; a model trained for more gets it only when asked (--ctx)
KV_NUMBERS = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}  # ggml_type
FLASH_NUMBERS = {"auto": -1, "off": 0, "on": 1}  # llama_flash_attn_type
_ABORTED = 2  # llama_decode: stopped by the abort callback


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Options:
    """How to load. `None` lets the session choose.

    Attributes:
        n_ctx: tokens of context; default the model's own, at most 4096.
        threads: default one a big physical core.
        kv: type of the KV cache, f16, q8_0, q4_0 (or f32, bf16).
        n_ubatch: tokens computed at once in prefill.
        flash_attn: auto, on, off.
        gpu_layers: layers to offload; None leaves the engine's default.
        max_outputs: most tokens in a batch whose logits are wanted. 1 saves a logits buffer of
            n_ubatch x vocabulary in f32 (297 MiB for PLM-1.8B).
        mmap: map the file instead of reading it. The engine repacks most weights into a layout of
            its own, so a mapped file is held twice: measured with PLM-1.8B in Q4_K, 1.9 GiB
            resident against 1.2, for 0.6 s less of loading.
        check_memory: refuse in advance what will not fit.
        n_seq_max: most sequences at once; each has its share of `n_ctx`.
        observe: asked and told of every node of the graph, which then runs alone (a
            ggml_backend_sched_eval_callback; slow, for profiling).
        stop: asked often, also within a long prefill; True stops loading or generating.
        on_load: told the share loaded, 0 to 1.
    """

    n_ctx: int | None = None
    threads: int | None = None
    kv: str = "f16"
    n_ubatch: int = 512
    flash_attn: str = "auto"
    gpu_layers: int | None = None
    max_outputs: int = 1
    mmap: bool = False
    check_memory: bool = True
    n_seq_max: int = 1
    observe: Callable[[int, bool], bool] | None = None
    stop: Callable[[], bool] = _never
    on_load: Callable[[float], None] | None = None


class Session:
    """A loaded model with its context. Use `open`, and `with` or `close`."""

    def __init__(self, bindings: Any, header: gguf_file.GGUFFile, options: Options) -> None:
        self.header = header
        self.options = options
        self.threads = options.threads or default_threads()
        self.engine: dict[str, Any] = {}
        self.load_s = 0.0
        self.kv: KVReport | None = None
        self.compute_bytes = 0
        self.n_ctx = 0
        self.rows = RowCounts(None)
        self.bindings = bindings
        self.ctx: Any = None  # llama_context *
        self.vocab: Any = None  # llama_vocab *
        self._model: Any = None
        self._raised: BaseException | None = None
        self._abort = bindings.ggml_abort_callback(self._asked_to_stop)
        self._no_abort = bindings.ggml_abort_callback()
        observer = bindings.ggml_backend_sched_eval_callback
        self._observe = observer(self._observed) if options.observe else observer()

    @classmethod
    def open(
        cls, path: Path, options: Options | None = None, engine: library.Engine | None = None
    ) -> Session:
        """Load the GGUF at `path`.

        Args:
            engine: the libraries to run it; None takes ours, checked. One kind a process.

        Raises:
            PlmEdgeError: not a usable model (INPUT), no engine (ENVIRONMENT), or it will not fit
                (RESOURCES).
            KeyboardInterrupt: `options.stop` said so while loading.
        """
        options = options or Options()
        header = gguf_file.read(path)
        n_ctx = choose_ctx(header, options.n_ctx)
        if options.check_memory:
            memory.check(header, n_ctx, options.kv, options.n_ubatch)
        if not engine_log.echo:
            # An assertion in ggml would call a debugger and print pages of stack.
            os.environ.setdefault("GGML_NO_BACKTRACE", "1")
        engine = engine or library.load()
        engine_log.install(engine.bindings)
        session = cls(engine.bindings, header, options)
        session.rows = RowCounts(engine.folder)
        session.engine = {
            "version": engine.info.version,
            "pin": engine.info.pin,
            "tree": engine.info.tree,
        }
        try:
            session._load(n_ctx)
        except BaseException:
            session.close()
            raise
        return session

    def _load(self, n_ctx: int) -> None:
        lc, options = self.bindings, self.options
        started = time.perf_counter()
        engine_log.clear()
        lc.llama_backend_init()
        model_params = lc.llama_model_default_params()
        if options.gpu_layers is not None:
            model_params.n_gpu_layers = options.gpu_layers
        model_params.load_mode = (
            lc.LLAMA_LOAD_MODE_MMAP if options.mmap else lc.LLAMA_LOAD_MODE_NONE
        )
        progress = lc.llama_progress_callback(self._loading)
        model_params.progress_callback = progress
        self._model = lc.llama_model_load_from_file(os.fsencode(self.header.path), model_params)
        self._reraise()
        if not self._model:
            if options.stop():
                raise KeyboardInterrupt
            raise _load_error(self.header, "the engine cannot load")
        if lc.llama_model_has_encoder(self._model):
            raise PlmEdgeError(
                f"{self.header.path.name} is an encoder model",
                f"architecture {self.header.architecture!r} does not continue a text",
                "use a decoder model such as PLM",
            )
        self.vocab = lc.llama_model_get_vocab(self._model)
        params = lc.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = min(options.n_ubatch, n_ctx)
        params.n_threads = params.n_threads_batch = self.threads
        params.flash_attn_type = FLASH_NUMBERS[options.flash_attn]
        # A latent cache holds K alone, and the engine insists that V's unused type is the same.
        params.type_k = params.type_v = KV_NUMBERS[options.kv]
        params.n_outputs_max = options.max_outputs
        params.n_seq_max = options.n_seq_max
        params.cb_eval = self._observe
        self.ctx = lc.llama_init_from_model(self._model, params)
        if not self.ctx:
            raise _load_error(self.header, "the engine cannot make a context for")
        # The engine pads its cache to 256 cells; the limit is what was asked for.
        self.n_ctx = min(n_ctx, lc.llama_n_ctx(self.ctx))
        self.kv = kv_report(engine_log, self.header, options.kv, options.n_seq_max)
        self.compute_bytes = engine_log.compute_bytes()
        self.load_s = time.perf_counter() - started

    def _loading(self, share: float, _user_data: object) -> bool:
        try:
            if self.options.on_load:
                self.options.on_load(share)
            return not self.options.stop()
        except BaseException as error:
            # It cannot pass through the C frames: kept, and raised when the call is back.
            self._raised = error
            return False

    def _asked_to_stop(self, _user_data: object) -> bool:
        # Called by the engine before each node of the graph, on the calling thread: Python runs
        # pending signal handlers here, which is how Ctrl-C gets into a long prefill.
        try:
            return self.options.stop()
        except BaseException as error:
            self._raised = error
            return True

    def _observed(self, node: int | None, ask: bool, _user_data: object) -> bool:
        try:
            assert self.options.observe is not None
            return self.options.observe(node or 0, ask)
        except BaseException as error:
            self._raised = error
            return False

    def _reraise(self) -> None:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    @property
    def n_batch(self) -> int:
        """Most tokens in one call of `decode`."""
        return int(self.bindings.llama_n_batch(self.ctx))

    @property
    def description(self) -> str:
        """The engine's line about the model: family, size, type."""
        buffer = ctypes.create_string_buffer(256)
        self.bindings.llama_model_desc(self._model, buffer, len(buffer))
        return buffer.value.decode("utf-8", errors="replace")

    @property
    def chat_template(self) -> str | None:
        """The model's chat template, or None for a base model."""
        template = self.bindings.llama_model_chat_template(self._model, None)
        return template.decode("utf-8", errors="replace") if template else None

    @property
    def bos_eos(self) -> tuple[str, str]:
        """Text of the tokens that begin and end a sequence; empty where there is none."""
        ends = self.bindings.llama_vocab_bos(self.vocab), self.bindings.llama_vocab_eos(self.vocab)
        bos, eos = (
            self.piece(token, special=True).decode("utf-8", errors="replace") if token >= 0 else ""
            for token in ends
        )
        return bos, eos

    def tokenize(self, text: str | bytes, *, add_special: bool = True) -> list[int]:
        """Token ids of `text`; names of special tokens in it become those tokens.

        Args:
            text: what is no UTF-8 in bytes, or a lone surrogate in a str, is replaced by U+FFFD, as
                bytes.decode does. (llama.cpp makes ids of its own of it, and of some ends the
                process.)
            add_special: add the sequence's begin token where the model wants one.
        """
        given = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        raw = given.decode("utf-8", "replace").encode("utf-8")
        n_max = len(raw) + 8  # a token covers at least a byte; a few specials besides
        tokens = (ctypes.c_int32 * n_max)()
        count = self.bindings.llama_tokenize(
            self.vocab, raw, len(raw), tokens, n_max, add_special, True
        )
        if count < 0:
            raise PlmEdgeError(
                "the prompt cannot be tokenised",
                f"the engine wants room for {-count:,} tokens of {len(raw):,} bytes",
                "shorten the prompt",
            )
        return list(tokens[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """A token's bytes; not always whole characters."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self.bindings.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def is_end(self, token: int) -> bool:
        """Whether the model ends its text with this token."""
        return bool(self.bindings.llama_vocab_is_eog(self.vocab, token))

    def generate(
        self,
        prompt: Sequence[int],
        n_predict: int | None = None,
        sampling: Sampling | None = None,
    ) -> Generation:
        """Start a generation; iterate it for the text. Forgets earlier generations.

        Args:
            prompt: token ids, at least one and fewer than `n_ctx`.
            n_predict: most new tokens; None goes on until the model ends or the context is full.

        Raises:
            PlmEdgeError: the prompt is empty or does not fit.
        """
        if not prompt:
            raise PlmEdgeError(
                "the prompt is empty",
                "the model needs at least one token to continue",
                "give some text with --prompt",
                ExitCode.USAGE,
            )
        if len(prompt) >= self.n_ctx:
            trained = self.bindings.llama_model_n_ctx_train(self._model)
            fits = len(prompt) < trained
            wanted = min(trained, -(-(len(prompt) + 256) // 256) * 256)
            raise PlmEdgeError(
                "the prompt does not fit the context",
                f"it has {len(prompt):,} tokens, the context {self.n_ctx:,} (the model was "
                f"trained for {trained:,})",
                f"use --ctx {wanted}" if fits else "shorten the prompt",
            )
        self.bindings.llama_memory_clear(self.bindings.llama_get_memory(self.ctx), False)
        return Generation(self, list(prompt), n_predict, (sampling or Sampling()).checked())

    def decode(self, tokens: Sequence[int], abortable: bool) -> bool:
        """Compute `tokens` at the next positions. False when stopped on the way.

        The abort callback costs a Python call for each node of the graph: nothing beside a
        prefill, several percent of a small model's decode step, so it is on for prefill alone.
        """
        lc = self.bindings
        lc.llama_set_abort_callback(self.ctx, self._abort if abortable else self._no_abort, None)
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        status = lc.llama_decode(self.ctx, lc.llama_batch_get_one(array, len(tokens)))
        self._reraise()
        if status == 0:
            lc.llama_synchronize(self.ctx)
            return True
        if status == _ABORTED:
            return False
        raise PlmEdgeError(
            "the engine could not compute the next tokens",
            engine_log.reason() or f"llama_decode returned {status}",
            "lower --ctx if memory is short; else run again with --debug and report it",
            ExitCode.RESOURCES if status == -2 else ExitCode.INTERNAL,
        )

    def close(self) -> None:
        """Free the context and the model. Safe to call twice."""
        if self.ctx:
            self.bindings.llama_free(self.ctx)
        if self._model:
            self.bindings.llama_model_free(self._model)
        self.ctx = self._model = self.vocab = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def choose_ctx(header: gguf_file.GGUFFile, wanted: int | None) -> int:
    """Tokens of context: `wanted`, or what the model was trained for, at most 4096."""
    if wanted is not None:
        return wanted
    trained = header.arch_key("context_length")
    return min(trained, DEFAULT_CTX) if isinstance(trained, int) and trained > 0 else DEFAULT_CTX


def _load_error(header: gguf_file.GGUFFile, what: str) -> PlmEdgeError:
    reason = engine_log.reason()
    if "alloc" in reason or "out of memory" in reason:
        return PlmEdgeError(
            f"not enough memory for {header.path.name}",
            reason,
            "lower --ctx or --kv, convert to a smaller type, or close other programs",
            ExitCode.RESOURCES,
        )
    if "unknown model architecture" in reason:
        fix = "use a model of an architecture that llama.cpp knows"
    else:
        fix = "convert or get the model again; `plm-edge inspect FILE` shows what it holds"
    return PlmEdgeError(f"{what} {header.path.name}", reason or "it gave no reason", fix)
