"""Log probabilities say what the model thought of a token, before the sampling settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenLogprob:
    """What the model thought of a token, before the sampling settings and the grammar.

    Attributes:
        token: its id.
        piece: its bytes, not always whole characters; a special token's name.
        logprob: natural logarithm of its probability, at most 0.
    """

    token: int
    piece: bytes
    logprob: float


@dataclass(frozen=True)
class ChosenLogprob(TokenLogprob):
    """A token of a text, and what could have stood in its place.

    Attributes:
        top: the likeliest tokens there, the likeliest first; the chosen one may be among them.
    """

    top: tuple[TokenLogprob, ...] = ()


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the natural logarithm of each probability, along the last axis, in float64."""
    values = logits.astype(np.float64)
    values -= values.max(axis=-1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=-1, keepdims=True))
    return values


def likeliest(logprobs: NDArray[np.float64], count: int) -> list[int]:
    """Returns the ids of the `count` likeliest tokens, the likeliest first, of equals the lower.

    Args:
        logprobs: of each token, [n_vocab].
    """
    count = min(count, len(logprobs))
    if count == 0:
        return []
    # All that are at least as likely as the last one, so that equals are chosen by their id.
    bar = np.partition(logprobs, len(logprobs) - count)[len(logprobs) - count]
    found = np.flatnonzero(logprobs >= bar)
    order = np.lexsort((found, -logprobs[found]))
    return [int(token) for token in found[order][:count]]


class Piece(Protocol):
    """Turns a token id into its bytes; `special` also names special tokens."""

    def __call__(self, token: int, *, special: bool) -> bytes: ...


def chosen(logprobs: NDArray[np.float64], token: int, count: int, piece: Piece) -> ChosenLogprob:
    """Returns what the model thought of the token that was chosen, and the `count` likeliest.

    Args:
        logprobs: of each token there, [n_vocab].
    """
    top = tuple(
        TokenLogprob(other, piece(other, special=True), float(logprobs[other]))
        for other in likeliest(logprobs, count)
    )
    return ChosenLogprob(token, piece(token, special=True), float(logprobs[token]), top)
