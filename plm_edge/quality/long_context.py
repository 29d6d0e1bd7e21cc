"""What a smaller type of cache costs over a long context: by position, and for a name to be found.

found = measure(model, text)
found["q4_0"].by_position       # KL divergence from the f32 cache, eighths of the context
found["q4_0"].needle            # log probability of a name that the beginning assigned
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.quality import predictions, reference
from plm_edge.quality.divergence import log_softmax
from plm_edge.quality.figures import Values
from plm_edge.quality.predictions import Rows
from plm_edge.quality.tasks import Scorer, open_for

TYPES = ("f16", "q8_0", "q4_0")
PARTS = 8


@dataclass(frozen=True)
class OfCache:
    """What one type of cache does.

    Attributes:
        by_position: KL divergence from the cache in f32, nats a token, mean over each eighth of the
            context, the beginning first.
        needle: log probability of a token of the assigned name, where it is asked for again at the
            context's end, in nats a token.
        elsewhere: the same of a name that was not assigned: what it is by chance.
    """

    by_position: tuple[float, ...]
    needle: float
    elsewhere: float


def measure(
    model: Path,
    words: str,
    n_ctx: int,
    needle: tuple[str, str, str] = ("# owner: ", "marjorie", "bartholomew"),
    options: Options | None = None,
) -> dict[str, OfCache]:
    """Fill the context with a text, once for each type of cache, f32 among them.

    Args:
        words: as long as the context, or longer.
        n_ctx: tokens of context.
        needle: what stands before the name, the name, and another one. The text begins with the
            first two, and ends with the first.
        options: how the model is computed.

    Raises:
        PlmEdgeError: the text is too short, or the model cannot be computed.
    """
    options = options or Options()
    n_vocab = len(reference.vocabulary_of(model))
    found = {}
    with tempfile.TemporaryFile() as kept:  # predictions with the cache in f32
        for kv in ("f32", *TYPES):
            chosen = replace(options, kv=kv)
            with predictions.open_for(model, n_vocab, n_ctx, chosen) as session:
                tokens = session.tokenize(words)[:n_ctx]
                if len(tokens) < n_ctx:
                    raise PlmEdgeError(
                        "the text does not fill the context",
                        f"it has {len(tokens):,} tokens, the context {n_ctx:,}",
                        "give a longer text",
                    )
                if kv == "f32":
                    for rows in _read(session, tokens):
                        rows.tofile(kept)
                    kept.flush()
                known = np.memmap(kept, np.float32, "r", shape=(n_ctx, n_vocab))
                kl = _divergence(known, _read(session, tokens))
            parts = tuple(float(part.mean()) for part in np.array_split(kl, PARTS))
            found[kv] = OfCache(parts, *_found(model, words, n_ctx, needle, chosen))
    return found


def _read(session: Session, tokens: Sequence[int]) -> Iterator[Rows]:
    """Yields [some rows, n_vocab]: log probabilities at all positions, in order."""
    context = session.context
    context.clear()
    size = min(context.n_batch, predictions.rows_at_once(context.n_vocab, len(tokens)))
    batch = context.batch(size)
    for start in range(0, len(tokens), size):
        batch.clear()
        batch.extend(tokens[start : start + size], start, wanted="all")
        context.decode(batch)
        yield log_softmax(np.array(context.logits()))


def _divergence(known: Rows, made: Iterable[Rows]) -> Values:
    """KL divergence at each position, [token]."""
    found: list[Values] = []
    at = 0
    for rows in made:
        before = known[at : at + len(rows)]
        found.append((np.exp(before) * (before - rows)).sum(1, dtype=np.float64))
        at += len(rows)
    return np.concatenate(found)


def _found(
    model: Path, words: str, n_ctx: int, needle: tuple[str, str, str], options: Options
) -> tuple[float, float]:
    """Log probability a token of the name and of the other one, at the end of the context."""
    before, name, other = needle
    with open_for(model, replace(options, n_ctx=n_ctx)) as session:
        scorer = Scorer(session)
        begin = session.tokenize(f"{before}{name}\n")
        end = session.tokenize(f"\n{before}", add_special=False)
        answers = [session.tokenize(one, add_special=False) for one in (name, other)]
        room = n_ctx - len(begin) - len(end) - max(map(len, answers))
        middle = session.tokenize(words, add_special=False)[:room]
        scores = [scorer.score([*begin, *middle, *end], answer)[0] for answer in answers]
        lengths = [len(answer) for answer in answers]
    return scores[0] / lengths[0], scores[1] / lengths[1]
