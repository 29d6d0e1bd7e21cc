"""What a model predicts after each judged position of a chunk, a few rows at a time.

A row of logits is as wide as the vocabulary (594 KiB for PLM-1.8B): the engine keeps ROWS_BYTES of
them, and what is computed with them here takes BLOCK_BYTES at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.engine.options import Options, never
from plm_edge.engine.session import Session
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.quality.divergence import log_softmax
from plm_edge.quality.text import Chunks

ROWS_BYTES = 64 << 20
BLOCK_BYTES = 8 << 20
Rows = NDArray[np.float32]


def rows_at_once(n_vocab: int, n_ctx: int) -> int:
    """Returns how many rows of logits are computed together."""
    return max(1, min(n_ctx, ROWS_BYTES // (4 * n_vocab)))


def open_for(path: Path | GGUFFile, n_vocab: int, n_ctx: int, options: Options) -> Session:
    """Open a model to predict chunks of `n_ctx` tokens; of `options` those that say how it
    computes count.

    Raises:
        PlmEdgeError: it cannot be loaded, or will not fit.
    """
    rows = rows_at_once(n_vocab, n_ctx)
    chosen = replace(options, n_ctx=n_ctx, n_ubatch=min(options.n_ubatch, n_ctx), max_outputs=rows)
    return Session.open(path, chosen)


def how(session: Session, options: Options) -> str:
    """Returns what, beside model, cache and text, the predictions depend on."""
    return f"{session.engine['tree']} {options.flash_attn} {options.n_ubatch}"


def log_probabilities(session: Session, chunks: Chunks, chunk: int) -> Iterator[Rows]:
    """Yields [some rows, n_vocab]: natural logarithms of the probabilities after the judged
    positions, in order; arrays that the caller may keep.

    Args:
        session: opened by `open_for`.

    Raises:
        PlmEdgeError: the engine cannot compute them.
        KeyboardInterrupt: the session's `options.stop` said so.
    """
    context = session.context
    context.clear()
    tokens = chunks.given[chunk].tolist()
    stoppable = session.options.stop is not never
    most = rows_at_once(context.n_vocab, chunks.n_ctx)
    batch = context.batch()
    start = 0
    while start < chunks.n_ctx - 1:
        # Rows that nobody wants cost no logits: they may go with as many others as fit.
        wanted_from = max(start, chunks.first)
        end = min(start + context.n_batch, wanted_from + most, chunks.n_ctx)
        batch.clear()
        for position in range(start, end):
            judged = chunks.first <= position < chunks.n_ctx - 1
            batch.add(tokens[position], position, wanted=judged)
        if not context.decode(batch, abortable=stoppable):
            raise KeyboardInterrupt
        if batch.n_wanted:
            made = context.logits()
            block = max(1, BLOCK_BYTES // (4 * context.n_vocab))
            for row in range(0, len(made), block):
                yield log_softmax(made[row : row + block].copy())
        start = end
