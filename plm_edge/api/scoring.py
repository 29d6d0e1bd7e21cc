"""Scoring computes a text that is given, and returns what the model thinks of each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.session import Session
from plm_edge.generate.logprobs import TokenLogprob, log_softmax

ROWS = 32  # tokens whose logits the engine keeps at once: 19 MiB for a vocabulary of 152,000


def logits(session: Session, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Returns [tokens, n_vocab]: in row i what comes after token i. Forgets what was computed.

    Raises:
        PlmEdgeError: there is no token, or more than the context has room for.
    """
    made = np.empty((len(tokens), session.context.n_vocab), np.float32)
    at = 0
    for rows in _rows(session, tokens):
        made[at : at + len(rows)] = rows
        at += len(rows)
    return made


def logprobs(session: Session, tokens: Sequence[int]) -> list[TokenLogprob]:
    """Returns the log probability of each token but the first, given those before it.

    Raises:
        PlmEdgeError: as `logits`.
    """
    found: list[TokenLogprob] = []
    piece = session.vocabulary.piece
    for rows in _rows(session, tokens):
        for row in log_softmax(rows):
            at = len(found) + 1
            if at < len(tokens):
                token = tokens[at]
                found.append(TokenLogprob(token, piece(token, special=True), float(row[token])))
    return found


def _rows(session: Session, tokens: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Views of the logits of some tokens after the other."""
    if not 0 < len(tokens) <= session.n_ctx:
        raise PlmEdgeError(
            "the text is empty" if not len(tokens) else "the text does not fit the context",
            f"it has {len(tokens):,} tokens, the context {session.n_ctx:,}",
            "give some text" if not len(tokens) else "load the model with a larger ctx",
        )
    context = session.context
    context.clear()
    size = min(ROWS, context.n_batch)
    batch = context.batch(size)
    for start in range(0, len(tokens), size):
        batch.clear()
        batch.extend(list(tokens[start : start + size]), start, wanted="all")
        context.decode(batch)
        yield context.logits()
