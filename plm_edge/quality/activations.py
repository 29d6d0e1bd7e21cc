"""What the weight matrices of a model are multiplied by, seen while it reads a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import Progress
from plm_edge.engine.observe import Node
from plm_edge.engine.options import Options, never
from plm_edge.engine.session import Session
from plm_edge.quality import predictions, reference, text
from plm_edge.quality.text import Chunks

_RELU_SQR = 1  # GGML_SPARSE_T_RELU_SQR
_LATENT = "kv_latent-"
# Its input goes to two products, of which one takes it through the cache: padded with empty cells,
# and in the cache's type. The graph's own name for it is neither.
_FROM_LATENT = "attn_kv_b.weight"
Inputs = NDArray[np.float32]


class Activations(ABC):
    """An `engine.observe.Observer` that is given the inputs of weight matrices."""

    @abstractmethod
    def wants_input(self, weight: str) -> bool:
        """Says whether `take_input` shall be called for this tensor of the file."""

    @abstractmethod
    def take_input(self, weight: str, inputs: Inputs) -> None:
        """Called with what a matrix is multiplied by.

        Args:
            weight: its name in the file.
            inputs: [token, column], tokens in the order of the batch. The columns are those of the
                matrix as a checkpoint has it, whichever way the file stores it.
        """

    def begin(self, chunks: Chunks, how: str) -> int:
        """Called before a text is read; returns the first chunk to read.

        Args:
            how: with the model and the chunks, all that the inputs depend on.
        """
        del chunks, how
        return 0

    def end_chunk(self, chunk: int) -> None:  # noqa: B027 -- most observers need not know
        """Called when all inputs of a chunk were taken."""

    def wants(self, node: Node) -> bool:
        """See `Observer`."""
        weight = _weight(node)
        return weight is not None and self.wants_input(weight)

    def take(self, node: Node) -> None:
        """See `Observer`."""
        weight, inputs = _weight(node), node if node.name.startswith(_LATENT) else node.source(1)
        assert weight is not None
        assert inputs is not None
        values = inputs.values()
        if node.op == "MUL_MAT_SPARSE_T":
            values = np.square(np.maximum(values, 0))
        self.take_input(weight, values.reshape(-1, values.shape[-1]))


def _weight(node: Node) -> str | None:
    """The tensor of the file that the node multiplies by; None for any other node.

    Raises:
        PlmEdgeError: the model is a mixture of experts.
    """
    if node.name.startswith(_LATENT):
        layer = node.name.removeprefix(_LATENT)
        # before it has its name, the normalised latent has those of the steps to it
        return f"blk.{layer}.{_FROM_LATENT}" if layer.isdigit() else None
    op = node.op
    if op == "MUL_MAT_ID":
        raise PlmEdgeError(
            "a mixture of experts cannot be observed",
            "which expert a token goes to is not followed here",
            "use a dense model such as PLM; for others there is llama-imatrix",
        )
    if op not in ("MUL_MAT", "MUL_MAT_SPARSE_T"):
        return None
    weight = node.source(0)
    assert weight is not None
    # on another device a weight is DEVICE#NAME#COPY
    name = weight.name.split("#")[1] if "#" in weight.name else weight.name
    # a view, or a product of two results: its name ends otherwise
    if not name.endswith(".weight") or name.endswith(_FROM_LATENT):
        return None
    if op == "MUL_MAT_SPARSE_T" and node.parameter != _RELU_SQR:
        return None
    return name


def read(
    model: Path,
    words: str,
    n_ctx: int,
    most: int | None,
    options: Options,
    observer: Activations,
    progress: Progress,
) -> Chunks:
    """Read a text through a model, chunk by chunk, while an observer looks on.

    Every position's logits are computed: what nobody wants, the last layer would leave out.

    Args:
        words: the text.
        n_ctx: tokens of a chunk; each is begun anew.
        most: chunks; None takes all.
        options: how the model is computed; its observer is `observer`.
        progress: told of chunks.

    Raises:
        PlmEdgeError: the model cannot be loaded or computed, or the text fills no chunk.
        KeyboardInterrupt: `options.stop` said so.
    """
    n_vocab = len(reference.vocabulary_of(model))
    chosen = replace(options, observer=observer)
    with predictions.open_for(model, n_vocab, n_ctx, chosen) as session:
        chunks = text.cut(session.vocabulary, words, n_ctx, most)
        how = f"{predictions.how(session, options)} {session.kv_type}"
        first = observer.begin(chunks, how)
        progress.begin(len(chunks) - first)
        for chunk in range(first, len(chunks)):
            _read_chunk(session, chunks, chunk)
            observer.end_chunk(chunk)
            progress.advance(1)
    return chunks


def _read_chunk(session: Session, chunks: Chunks, chunk: int) -> None:
    context, n_ctx = session.context, chunks.n_ctx
    context.clear()
    size = min(context.n_batch, predictions.rows_at_once(context.n_vocab, n_ctx))
    batch, tokens = context.batch(size), chunks.given[chunk].tolist()
    stoppable = session.options.stop is not never
    for start in range(0, n_ctx, size):
        batch.clear()
        batch.extend(tokens[start : start + size], start, wanted="all")
        if not context.decode(batch, abortable=stoppable):
            raise KeyboardInterrupt
