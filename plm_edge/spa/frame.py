"""What the device gets of a token: the base's states through the codec, and its likeliest tokens.

Rows are tokens of a text: row i is what the base says after the tokens up to i.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

TOP = 64
"""Tokens whose logits the device gets."""


@dataclass(frozen=True)
class Rows:
    """Some rows.

    Attributes:
        codes: [rows, states, width], int8; a state's values are codes x scale.
        scales: [rows, states], float16.
        ids: [rows, TOP], int32; the likeliest tokens, best first.
        logits: [rows, TOP], float16: by how much each is below the best one; the first is 0.
        rest: [rows], float32: natural logarithm of the probability of all other tokens together.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float16]
    ids: NDArray[np.int32]
    logits: NDArray[np.float16]
    rest: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Rows:
        return Rows(*(getattr(self, field.name)[rows] for field in fields(self)))

    def states(self) -> NDArray[np.float32]:
        """Returns [rows, states, width]: what the side reads."""
        values: NDArray[np.float32] = self.codes.astype(np.float32) * self.scales[..., None].astype(
            np.float32
        )
        return values

    def log_probabilities(self) -> NDArray[np.float32]:
        """Returns [rows, TOP]: natural logarithms of the base's probabilities of `ids`."""
        return log_probabilities(self.logits, self.rest)


def log_probabilities(
    logits: NDArray[np.float16], rest: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Returns what `Rows.log_probabilities` does, of `Rows.logits` and `Rows.rest`."""
    values = logits.astype(np.float32)
    known = np.log(np.exp(values).sum(-1)) - np.log1p(-np.exp(np.minimum(rest, -1e-7)))
    made: NDArray[np.float32] = values - known[:, None]
    return made


def join(parts: list[Rows]) -> Rows:
    """Returns the rows of all parts, one after the other."""
    names = [field.name for field in fields(Rows)]
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


Likeliest = tuple[NDArray[np.int32], NDArray[np.float16], NDArray[np.float32]]
"""`Rows.ids`, `Rows.logits` and `Rows.rest` of some rows."""


class Logits:
    """The base's logits of one row: who chooses a token asks for the likeliest ones, and who sends
    it to the device asks again.

    Args:
        values: [n_vocab].
    """

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = values

    @cached_property
    def likeliest(self) -> Likeliest:
        """What `likeliest` says of it, as one row."""
        return likeliest(self.values[None])


def likeliest(
    logits: NDArray[np.float32],
) -> Likeliest:
    """Returns what a device gets of the base's logits, [rows, n_vocab].

    Of equal logits the lower id comes first, as greedy sampling picks.
    """
    top = min(TOP, logits.shape[1] - 1)
    ids = np.stack([_best(row, top) for row in logits])
    values = np.take_along_axis(logits, ids, -1)
    below = logits - values[:, :1]
    total = np.exp(below, dtype=np.float32).sum(-1, dtype=np.float64)
    known = np.exp(values - values[:, :1]).sum(-1, dtype=np.float64)
    rest = np.log(np.maximum(1 - known / total, 1e-9)).astype(np.float32)
    # float16 ends at -65,504, and what is as unlikely as that is never chosen
    short = np.maximum(values - values[:, :1], -60000).astype(np.float16)
    return ids.astype(np.int32), short, rest


def _best(row: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Returns the places of the largest values, the largest first.

    The least of as many blocks' largest values is no more than any of those: what is below it is
    left out, which is nearly all of a vocabulary.
    """
    size = max(1, len(row) // (8 * count))
    peaks = row[: len(row) // size * size].reshape(-1, size).max(-1)
    least = np.partition(peaks, len(peaks) - count)[-count]
    # all of them, where the least is no number
    found = np.flatnonzero(~(row < least))
    return found[np.argsort(-row[found], kind="stable")[:count]]
