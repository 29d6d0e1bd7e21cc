"""The gates say how much side and memories count, each a number from 0 to 1 a token.

    q(t) = (1 - g) base(t) + g side(t)
    r(t) = (1 - w) q(t) + w (m(t) + escape · q(t))
    p(t) = (1 - v) r(t) + v s(t)

g, w and v are logistic in what the device sees of the token (`features`), and are fitted so that
text that nothing else was trained on is as likely as can be: half of the weight on personal text
that was held back, half on public text, as Shen et al. do with two models (Co-LLM, arXiv
2403.03870).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.spa.frame import Rows
from plm_edge.spa.memory import ORDER, Recall
from plm_edge.spa.nearest import Sureness
from plm_edge.spa.side import NARROW, Changed

Values = NDArray[np.float32]
_SHUT = -30.0  # what a logistic gate makes 1e-13 of
PARTS = ("side", "memory", "nearest")
N_FEATURES = 6 + ORDER + 3 + 3 + NARROW
"""Features of a plugin's row: of base and side, of memory and nearest places, and r of the side."""


def features(
    rows: Rows, changed: Changed, out: Values, recalls: Sequence[Recall], near: Sureness
) -> Values:
    """Returns [rows, features]: how sure each part is, and where the side stands."""
    base = rows.log_probabilities()
    shift = (np.exp(changed.top) * (changed.top - base)).sum(-1)
    heard = np.array([
        [*(recall.order == order for order in range(1, ORDER + 1)),
         np.log1p(recall.seen), np.log(recall.escape),
         recall.mass.max(initial=0.0)]
        for recall in recalls
    ], np.float32)  # fmt: skip
    parts = (
        np.ones(len(rows)), base[:, 0], rows.rest / 4, changed.top.max(-1), shift,
        changed.top[:, 0] - base[:, 0],
    )  # fmt: skip
    known = np.stack(parts, 1).astype(np.float32)
    places = np.stack([near.most, 3 * near.distance, np.log(near.distance + np.float32(1e-3))], 1)
    return np.concatenate([known, heard, places, np.tanh(out / 4)], 1)


@dataclass(frozen=True)
class Gates:
    """Attributes:
    weights: [PARTS, features], float32.
    """

    weights: Values

    def of(self, seen: Values) -> Values:
        """Returns g, w and v of each row, [PARTS, rows]."""
        made: Values = _logistic(self.weights @ seen.T)
        return made


def shut() -> Gates:
    """Returns gates with which the base answers."""
    weights = np.zeros((len(PARTS), N_FEATURES), np.float32)
    weights[:, 0] = _SHUT  # of the feature that is 1 everywhere
    return Gates(weights)


@dataclass(frozen=True)
class Likelihoods:
    """Of each row's target: its probability after each part, [rows].

    Attributes:
        escape: the share that the memory leaves.
        nearest: s.
    """

    base: Values
    side: Values
    memory: Values
    escape: Values
    nearest: Values

    def mixed(self, gates: Values) -> Values:
        """Returns p of the targets.

        Args:
            gates: g, w and v, [PARTS, rows].
        """
        g, w, v = gates
        q = (1 - g) * self.base + g * self.side
        r = (1 - w) * q + w * (self.memory + self.escape * q)
        made: Values = (1 - v) * r + v * self.nearest
        return made


def fit(
    parts: Sequence[tuple[Values, Likelihoods]],
    uses: Sequence[str] = PARTS,
    *,
    steps: int = 600,
    decay: float = 1e-4,
) -> Gates:
    """Returns the gates that make the parts likeliest, each part with the same weight.

    Args:
        parts: features [rows, features], and the likelihoods of the same rows.
        uses: those of PARTS that may count; the gates of others stay shut.
    """
    seen = np.concatenate([part for part, _ in parts]).astype(np.float64)
    share = np.concatenate([np.full(len(part), 1 / len(part) / len(parts)) for part, _ in parts])
    base, side, memory, escape, nearest = (
        np.concatenate([getattr(found, name) for _, found in parts]).astype(np.float64)
        for name in ("base", "side", "memory", "escape", "nearest")
    )
    used = np.array([name in uses for name in PARTS])
    weights = np.zeros((len(PARTS), seen.shape[1]))
    weights[:, 0] = np.where(used, -1.0, _SHUT)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, steps + 1):
        g, w, v = found = _logistic(weights @ seen.T)
        q = (1 - g) * base + g * side
        kept = 1 - w * (1 - escape)  # of q in r
        r = kept * q + w * memory
        p = np.maximum((1 - v) * r + v * nearest, 1e-30)
        by = np.stack([
            (1 - v) * kept * (side - base), (1 - v) * (memory - (1 - escape) * q), nearest - r
        ])  # fmt: skip
        grad = -((share / p * by * found * (1 - found)) @ seen) + decay * weights
        grad[~used] = 0
        first += 0.1 * (grad - first)
        second += 0.01 * (grad**2 - second)
        unbiased = (1 - 0.99**step) ** 0.5 / (1 - 0.9**step)
        weights -= 0.05 * unbiased * first / (np.sqrt(second) + 1e-8)
    return Gates(weights.astype(np.float32))


def _logistic(x: NDArray[Any]) -> NDArray[Any]:
    made: NDArray[Any] = 1 / (1 + np.exp(-np.clip(x, -30, 30)))
    return made
