"""An evaluation: a model's perplexity on a text, and how far it is from a reference.

What is judged of a chunk is written to disk at once, so that an interrupted evaluation goes on
where it was, to the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from plm_edge.base.progress import NoProgress, Progress
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.quality import figures, kept, predictions, reference, text
from plm_edge.quality.figures import Comparison, Perplexity, Values
from plm_edge.quality.kept import KeptJudgements, KeptPredictions
from plm_edge.quality.predictions import Rows
from plm_edge.quality.reference import EngineReference, Reference
from plm_edge.quality.text import Chunks
from plm_edge.quality.torch_reference import TorchReference

N_CTX = 512  # tokens of a chunk, as in llama-perplexity


@dataclass(frozen=True)
class Settings:
    """What is evaluated, and how.

    Attributes:
        n_ctx: tokens of a chunk.
        chunks: most chunks; None takes the whole text.
        options: of the model; its `n_ctx` and `max_outputs` are chosen here.
        limit: most bytes of references on disk; 0 keeps none; None: see `kept.default_limit`.

    The reference is computed by the same options, but for the cache, which is in f32.
    """

    n_ctx: int = N_CTX
    chunks: int | None = None
    options: Options = Options()  # noqa: RUF009 -- frozen
    limit: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        chunks: of `n_ctx` tokens that were judged.
        text_tokens: of the whole text.
        resumed: chunks that an earlier, interrupted run had judged.
        kept: chunks of the reference that were on disk already.
        kv: type of the model's cache.
    """

    perplexity: Perplexity
    comparison: Comparison | None
    n_ctx: int
    chunks: int
    text_tokens: int
    resumed: int
    kept: int
    kv: str


def evaluate(
    model: Path,
    words: str,
    against: Path | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    tokens: Callable[[Values], None] | None = None,
) -> Evaluation:
    """Judge a model by a text.

    Args:
        model: a GGUF.
        words: the text.
        against: the reference, a GGUF or a checkpoint's folder; None compares with nothing.
        progress: told of chunks; those of a reference that must be computed first count too.
        tokens: given what was judged of each token (see `judge`), all chunks together.

    Raises:
        PlmEdgeError: the text is too short, the two have other tokens, or one cannot be computed.
        KeyboardInterrupt: `settings.options.stop` said so; call it again to go on.
    """
    settings, progress = settings or Settings(), progress or NoProgress()
    if against is not None:
        reference.check_same_tokens(model, against)
    n_vocab = len(reference.vocabulary_of(model))

    def opened() -> Session:
        return predictions.open_for(model, n_vocab, settings.n_ctx, settings.options)

    session = opened()
    try:
        chunks = text.cut(session.vocabulary, words, settings.n_ctx, settings.chunks)
        kv, how = session.kv_type, predictions.how(session, settings.options)
        source = None
        if against is not None:
            source = _Source(against, chunks, n_vocab, settings, how)
        run = KeptJudgements(
            kept.key(reference.hash_of(model), kv, how, chunks, source.key if source else "")
        )
        todo = [chunk for chunk in range(len(chunks)) if not run.has(chunk)]
        missing = source.missing(todo) if source else []
        first = missing if source and source.kept.fits(len(chunks)) else []
        progress.begin(len(first) + len(todo))
        if source and first:
            # One model after the other: only one is in memory.
            session.close()
            with closing(source):
                for chunk in first:
                    for _ in source.rows(chunk):
                        pass
                    progress.advance(1)
            session = opened()
        for chunk in todo:
            ours = predictions.log_probabilities(session, chunks, chunk)
            theirs = source.rows(chunk) if source else None
            run.keep(chunk, judge(chunks.next_tokens(chunk), ours, theirs))
            progress.advance(1)
        if source:
            source.close()
    finally:
        session.close()
    judged = run.all(len(chunks))
    run.forget()
    if tokens is not None:
        tokens(judged)
    nats, *compared = judged.T
    return Evaluation(
        figures.perplexity(nats),
        figures.compare(nats, *compared) if source else None,
        settings.n_ctx,
        len(chunks),
        chunks.n_tokens,
        resumed=len(chunks) - len(todo),
        kept=len(todo) - len(missing) if source else 0,
        kv=kv,
    )


def judge(
    next_tokens: Iterable[int], ours: Iterable[Rows], theirs: Iterable[Rows] | None
) -> Values:
    """Judge the predictions of some tokens.

    Args:
        next_tokens: the text's, [token].
        ours: blocks of [some rows, n_vocab], a row for each of the tokens.
        theirs: the reference's, in blocks of whatever size.

    Returns:
        [token, 4]: negative log probability of the text's token, by us and by the reference; KL
        divergence of the reference from us, in nats; 1 where both find the same token likeliest.
        Without a reference, [token, 1].
    """
    tokens = iter(next_tokens)
    reference_rows = chain.from_iterable(theirs) if theirs is not None else None
    found = []
    for block in ours:
        row, right = np.arange(len(block)), np.array([*islice(tokens, len(block))])
        columns = [-block[row, right].astype(np.float64)]
        if reference_rows is not None:
            known = np.stack([*islice(reference_rows, len(block))])
            columns += [
                -known[row, right].astype(np.float64),
                (np.exp(known) * (known - block)).sum(1, dtype=np.float64),
                (known.argmax(1) == block.argmax(1)).astype(np.float64),
            ]
        found.append(np.stack(columns, 1))
    return np.concatenate(found)


class _Source:
    """A reference and what is kept of it.

    Attributes:
        key: a hash of all that its predictions depend on.
    """

    def __init__(
        self, path: Path, chunks: Chunks, n_vocab: int, settings: Settings, how: str
    ) -> None:
        self._made: Reference
        if path.is_dir():
            self._made, how = TorchReference(path, chunks), "torch"
        else:
            self._made = EngineReference(path, chunks, n_vocab, settings.options)
        self.key = kept.key(reference.hash_of(path), how, chunks)
        self.kept = KeptPredictions(self.key, chunks.n_judged, n_vocab, settings.limit)

    def missing(self, chunks: Iterable[int]) -> list[int]:
        """Returns those of the chunks that must be computed."""
        return [chunk for chunk in chunks if not self.kept.has(chunk)]

    def rows(self, chunk: int) -> Iterator[Rows]:
        """Yields a chunk's predictions, from disk if they are there; else computes and keeps
        them."""
        if self.kept.has(chunk):
            return self.kept.read(chunk)
        return self.kept.keep(chunk, self._made.chunk(chunk))

    def close(self) -> None:
        """Free the reference's memory; what is kept stays."""
        self._made.close()
