"""The memory: what followed the last one, two or three tokens in the personal text, counted.

Nothing is trained. With c_k(t) the times that t followed the last k tokens, n_k their sum and u_k
how many different ones there were, with absolute discounting (Ney, Essen and Kneser, 1994):

    p_k(t) = (max(0, c_k(t) - D) + D u_k p_{k-1}(t)) / n_k,    p_0 = what the base and the side say

so that all of it is  m(t) + escape · p_0(t).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDER = 3
DISCOUNT = 0.75  # D
BREAK = (1 << 21) - 1
"""Stands between two texts in a stream of tokens, and is no token."""


@dataclass(frozen=True)
class Recall:
    """What the memory says after a text.

    Attributes:
        ids: [n], int32, ascending; empty where the last token is not in it.
        mass: [n], float32: m(t), which together with `escape` makes 1.
        escape: the share of what the base and the side say.
        order: how many of the last tokens were found, 0 to 3.
        seen: how often those were seen.
    """

    ids: NDArray[np.int32]
    mass: NDArray[np.float32]
    escape: float
    order: int
    seen: int

    def of(self, token: int) -> float:
        """Returns m(token)."""
        at = int(np.searchsorted(self.ids, token))
        return float(self.mass[at]) if at < len(self.ids) and self.ids[at] == token else 0.0


NOTHING = Recall(np.empty(0, np.int32), np.empty(0, np.float32), 1.0, 0, 0)


class Memory:
    """The followers of short contexts in a stream.

    Args:
        stream: [n], int32: texts with a BREAK between any two.
    """

    def __init__(self, stream: NDArray[np.int32]) -> None:
        self.stream = np.ascontiguousarray(stream, np.int32)
        padded = np.concatenate([np.full(ORDER, BREAK), self.stream]).astype(np.int64)
        # of each follower the three tokens before it, the nearest in the highest bits
        keys = np.zeros(len(self.stream), np.int64)
        for back in range(1, ORDER + 1):
            start = ORDER - back
            keys = keys << 21 | padded[start : start + len(self.stream)]
        real = (self.stream != BREAK) & (keys >> 42 != BREAK)
        order = np.argsort(keys[real], kind="stable")
        self._keys = keys[real][order]
        self._followers = self.stream[real][order]

    def recall(self, context: Sequence[int]) -> Recall:
        """Returns what followed the end of `context`, of which the last three tokens count."""
        found, key = NOTHING, 0
        for length in range(1, min(ORDER, len(context)) + 1):
            if context[-length] == BREAK:
                break
            key |= int(context[-length]) << 21 * (ORDER - length)
            width = 1 << 21 * (ORDER - length)
            low, high = np.searchsorted(self._keys, (key, key + width))
            if low == high:
                break
            ids, counts = np.unique(self._followers[low:high], return_counts=True)
            n, different = int(high - low), len(ids)
            mass = counts.astype(np.float32) - np.float32(DISCOUNT)
            left = DISCOUNT * different
            if length > 1:
                # what followed a longer context followed a shorter one too
                merged = np.float32(left) * found.mass
                merged[np.searchsorted(found.ids, ids)] += mass
                ids, mass = found.ids, merged
            found = Recall(ids, mass / np.float32(n), found.escape * left / n, length, n)
        return found
