"""A token is chosen of candidates, alike on both ends: greedy, or with noise that the position
decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from plm_edge.spa.frame import Rows
from plm_edge.spa.mixture import features
from plm_edge.spa.plugin import Plugin

Values = NDArray[np.float32]


def pick(ids: NDArray[np.int32], logs: Values, temperature: float, seed: int, position: int) -> int:
    """Returns a token drawn with probabilities exp(logs / temperature); 0: the likeliest.

    Drawn by the largest of logs / temperature + Gumbel noise. The noise of a token is a hash of
    seed, position and token: two that agree on the logits agree on the token, and who leaves out
    tokens that would not win changes nothing.
    """
    if temperature <= 0:
        return int(ids[np.argmax(logs)])
    return int(ids[np.argmax(logs / temperature + _gumbel(ids, seed, position))])


def _gumbel(ids: NDArray[np.int32], seed: int, position: int) -> NDArray[np.float64]:
    """Noise [ids], by splitmix64 (Steele, Lea and Flood, 2014)."""
    start = (seed * 0x9E3779B97F4A7C15 + position * 0xD1342543DE82EF95) % (1 << 64)
    x = ids.astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    uniform = ((x >> np.uint64(11)).astype(np.float64) + 0.5) / (1 << 53)
    noise: NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


class Chooser(Protocol):
    """Who decides on the device which token comes next."""

    def choose(self, row: Rows, base: int, before: Sequence[int], position: int) -> int:
        """Returns the token.

        Args:
            row: one row, what the base says.
            base: the base's own choice.
            before: the last tokens as the device has them; three are enough.
            position: of the token.
        """
        ...


class BaseChooser:
    """Leaves it to the base."""

    def choose(self, row: Rows, base: int, before: Sequence[int], position: int) -> int:
        """See `Chooser`."""
        return base


class PluginChooser:
    """Asks side, memories and gates."""

    def __init__(self, plugin: Plugin, temperature: float = 0.0, seed: int = 0) -> None:
        self._plugin, self._temperature, self._seed = plugin, temperature, seed

    def choose(self, row: Rows, base: int, before: Sequence[int], position: int) -> int:
        """See `Chooser`."""
        ids, logs = self.candidates(row, before)
        return pick(ids, logs, self._temperature, self._seed, position)

    def candidates(self, row: Rows, before: Sequence[int]) -> tuple[NDArray[np.int32], Values]:
        """Returns the tokens that may come next, and natural logarithms of their probabilities.

        What the base says of a token that only memories know did not come here; it is less than
        of any that did, and counts as nothing.
        """
        plugin = self._plugin
        recall, near = plugin.memory.recall(before), plugin.nearest.ask(row)
        changed, out = plugin.changed(row)
        (g,), (w,), (v,) = plugin.gates.of(features(row, changed, out, [recall], near.sureness))
        q = (1 - g) * np.exp(row.log_probabilities()[0]) + g * np.exp(changed.top[0])
        ids = [row.ids[0], recall.ids, plugin.nearest.ids]
        p = [(1 - v) * (1 - w + w * recall.escape) * q, (1 - v) * w * recall.mass, v * near.mass[0]]
        # Both memories have their tokens in order, so that nothing is sorted here. What stands in
        # two places goes to the first of them.
        kept = [np.ones(len(some), bool) for some in ids]
        for to, source in ((1, 2), (0, 2), (0, 1)):
            here, there = _common(ids[to], ids[source])
            p[to][here] += np.where(kept[source][there], p[source][there], 0)
            kept[source][there] = False
        found, each = (
            np.concatenate([one[mask] for one, mask in zip(of, kept, strict=True)])
            for of in (ids, p)
        )
        return found.astype(np.int32), np.log(np.maximum(each, 1e-30)).astype(np.float32)


def _common(
    ids: NDArray[np.int32], some: NDArray[np.int32]
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Returns which of `ids` are among `some`, which ascend, and where there."""
    at = np.searchsorted(some, ids)
    inside = at < len(some)
    inside[inside] = some[at[inside]] == ids[inside]
    return inside, at[inside]
