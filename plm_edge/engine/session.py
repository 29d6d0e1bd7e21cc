"""A session is a loaded model with a context: what a program opens to compute with a GGUF.

    with Session.open(Path("model.gguf")) as session:
        session.context.append(session.tokenize("def add(a, b):"))
        session.context.row_logits()

`plm_edge.generate` makes text with it. All of it is built on the bindings' C-level functions: the
figures are then exactly the time between two calls of the engine, and nothing stands between Ctrl-C
and the computation.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path

from plm_edge.engine import accelerators, library
from plm_edge.engine.approximations import MARGIN, Approximations, is_exact
from plm_edge.engine.callbacks import Callbacks
from plm_edge.engine.context import Context
from plm_edge.engine.log import KVReport, engine_log
from plm_edge.engine.model import Model
from plm_edge.engine.options import AUTO, Options
from plm_edge.engine.placement import Placement, place
from plm_edge.engine.prompt_cache import PromptCache
from plm_edge.engine.sparsity import RowCounts
from plm_edge.engine.vocabulary import Vocabulary
from plm_edge.machine import locking
from plm_edge.machine.threads import default_threads
from plm_edge.model import fit, gguf_file, loadable
from plm_edge.model import need as needs
from plm_edge.model.description import describe
from plm_edge.model.fit import Fit
from plm_edge.model.gguf_file import GGUFFile


class Session:
    """A loaded model with its context. Use `open`, and `with` or `close`.

    Attributes:
        options: as given to `open`, with what was chosen in place of what was left open.
        fit: the chosen context and cache, what they need, and what was available.
        placement: which layers are computed elsewhere.
        model: the weights.
        context: computes with them.
        threads: that compute.
        engine: which engine it is: version (of plm-edge), pin (of upstream), tree (its hash).
        rows: counters of the rows of W_down that were read.
        prompts: what is kept of prompts on disk; None if none are.
        load_s: seconds that loading took.
        copies: bytes of transposed weights on devices without the sparse product, by buffer.
    """

    def __init__(
        self,
        header: GGUFFile,
        options: Options,
        engine: library.Engine,
        chosen: Fit,
        placement: Placement,
    ) -> None:
        self.options = options = replace(options, n_ctx=chosen.n_ctx, kv=chosen.kv)
        self.fit, self.placement = chosen, placement
        self.threads = options.threads or default_threads()
        info = engine.info
        self.engine = {"version": info.version, "pin": info.pin, "tree": info.tree}
        self.rows = RowCounts(engine.folder)
        callbacks = Callbacks(engine.bindings, options, engine.ggml)
        with engine_log.loading:
            started = time.perf_counter()
            self.model = Model(engine.bindings, header, options, callbacks, placement)
            try:
                self.context = Context(
                    engine.bindings,
                    engine.llama,
                    self.model,
                    options,
                    n_ctx=chosen.n_ctx,
                    threads=self.threads,
                    callbacks=callbacks,
                )
            except BaseException:
                self.model.close()
                raise
            self.load_s = time.perf_counter() - started
            self.copies = engine_log.copies_by_buffer()
        self.approximations = Approximations(engine.folder)
        if not options.skip_zeros:
            self.rows.skip(False)
        if options.exact:
            self.approximations.exact(True)
        if not options.planes:
            self.approximations.margin(math.inf)
        self.prompts: PromptCache | None = None
        if options.prompts is not None:
            self.prompts = PromptCache(
                engine.llama, self.context.handle, header.path, options.prompts
            )

    @classmethod
    def open(
        cls,
        path: Path | GGUFFile,
        options: Options | None = None,
    ) -> Session:
        """Load a GGUF.

        Args:
            path: the file, or its header where that was read already.

        Raises:
            PlmEdgeError: not a usable model (INPUT), no engine (ENVIRONMENT), or it will not fit
                (RESOURCES).
            KeyboardInterrupt: `options.stop` said so while loading.
        """
        options = options or Options()
        header = path if isinstance(path, GGUFFile) else gguf_file.read(path)
        loadable.check(header, names=False)
        away = options.gpu_layers != 0 and accelerators.has_backend(library.find())
        if not options.rpc and not away:
            choose_fit(header, options)  # refused before the engine is loaded
        if not engine_log.echo:
            # An assertion in ggml would call a debugger and print pages of stack.
            os.environ.setdefault("GGML_NO_BACKTRACE", "1")
        engine = library.load()
        engine_log.install(engine.bindings)
        placement = place(engine, header, options)
        return cls(header, options, engine, choose_fit(header, options, placement), placement)

    @property
    def notes(self) -> list[str]:
        """Sentences that say what was chosen for want of memory, and what is computed where."""
        return [note for note in (self.fit.note, self.placement.note, self._twice()) if note]

    def _twice(self) -> str | None:
        """What devices without the sparse product hold twice of a file in the edge layout."""
        if not self.copies or describe(self.header).layout != "edge":
            return None
        size = needs.mib(sum(self.copies.values()))
        return (
            f"{', '.join(self.copies)} has no sparse product: transposed weights take {size} MiB "
            "more there; of a file in the stock layout (convert --layout stock) far less"
        )

    @property
    def batches_are_exact(self) -> bool:
        """Whether tokens of a batch of up to 8 have the bits that they have one by one.

        The CPU's kernels see to that where attention is one op; nothing is known of a GPU's.
        """
        return not self.placement.devices and self.options.flash_attn != "off"

    @property
    def kv_type(self) -> str:
        """Type of the KV cache."""
        return self.fit.kv

    @property
    def header(self) -> GGUFFile:
        """The GGUF's keys and tensors."""
        return self.model.header

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's tokens."""
        return self.model.vocabulary

    @property
    def description(self) -> str:
        """The engine's line about the model: family, size, type."""
        return self.model.description

    @property
    def n_ctx(self) -> int:
        """Tokens of context."""
        return self.context.n_ctx

    @property
    def kv(self) -> KVReport | None:
        """The cache's sizes as the engine says, or None when the model has none."""
        return self.context.kv

    def tokenize(self, text: str | bytes, *, add_special: bool = True) -> list[int]:
        """Returns the token ids of `text`; see `Vocabulary.tokenize`."""
        return self.vocabulary.tokenize(text, add_special=add_special)

    def close(self) -> None:
        """Free the context and the model, once kept prompts are written. Safe to call twice."""
        if self.prompts is not None:
            self.prompts.close()
            self.prompts = None
        self.context.close()
        self.model.close()
        if not self.options.skip_zeros:
            self.rows.skip(True)
        if self.options.exact:
            self.approximations.exact(is_exact())
        if not self.options.planes:
            self.approximations.margin(MARGIN)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def choose_fit(header: GGUFFile, options: Options, placement: Placement | None = None) -> Fit:
    """Choose what the options leave open, so that the model fits the memory.

    Args:
        placement: None: all layers are here.

    Raises:
        PlmEdgeError: it will not fit (code RESOURCES).
    """
    chosen = fit.choose(
        header,
        options.n_ctx,
        None if options.kv == AUTO else options.kv,
        n_ubatch=options.n_ubatch,
        force=not options.check_memory,
        share=placement.share_here if placement else 1.0,
    )
    if options.mlock:
        locking.require(chosen.need.weights)
    return chosen
