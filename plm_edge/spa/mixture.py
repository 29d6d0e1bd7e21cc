"""The gates say how much the side and the memory count, each a number from 0 to 1 a token.

    q(t) = (1 - g) base(t) + g side(t)
    p(t) = (1 - w) q(t) + w (m(t) + escape · q(t))

g and w are logistic in what the device sees of the token (`features`), and are fitted so that text
that nothing else was trained on is as likely as can be: half of the weight on personal text that
was held back, half on public text, as Shen et al. do with two models (Co-LLM, arXiv 2403.03870).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.spa.frame import Rows
from plm_edge.spa.memory import ORDER, Recall
from plm_edge.spa.side import NARROW, Changed

Values = NDArray[np.float32]
N_FEATURES = 6 + ORDER + 3 + NARROW
"""Features of a plugin's row: of base and side, of the memory, and r."""


def features(rows: Rows, changed: Changed, out: Values, recalls: Sequence[Recall]) -> Values:
    """Returns [rows, features]: how sure base, side and memory are, and where the side stands."""
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
    return np.concatenate([known, heard, np.tanh(out / 4)], 1)


@dataclass(frozen=True)
class Gates:
    """Attributes:
    side, memory: [features], float32.
    """

    side: Values
    memory: Values

    def of(self, seen: Values) -> tuple[Values, Values]:
        """Returns g and w of each row, [rows] each."""
        return _logistic(seen @ self.side), _logistic(seen @ self.memory)


@dataclass(frozen=True)
class Likelihoods:
    """Of each row's target: its probability after each part, [rows].

    Attributes:
        escape: the share that the memory leaves.
    """

    base: Values
    side: Values
    memory: Values
    escape: Values

    def mixed(self, g: Values, w: Values) -> Values:
        """Returns p of the targets."""
        q = (1 - g) * self.base + g * self.side
        return (1 - w) * q + w * (self.memory + self.escape * q)


def fit(
    parts: Sequence[tuple[Values, Likelihoods]], *, steps: int = 600, decay: float = 1e-4
) -> Gates:
    """Returns the gates that make the parts likeliest, each part with the same weight.

    Args:
        parts: features [rows, features], and the likelihoods of the same rows.
    """
    seen = np.concatenate([part for part, _ in parts]).astype(np.float64)
    share = np.concatenate([np.full(len(part), 1 / len(part) / len(parts)) for part, _ in parts])
    base, side, memory, escape = (
        np.concatenate([getattr(found, name) for _, found in parts]).astype(np.float64)
        for name in ("base", "side", "memory", "escape")
    )
    weights = np.zeros((2, seen.shape[1]))
    weights[:, 0] = -1.0
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, steps + 1):
        g, w = _logistic(seen @ weights[0]), _logistic(seen @ weights[1])
        q = (1 - g) * base + g * side
        p = np.maximum((1 - w * (1 - escape)) * q + w * memory, 1e-30)
        by_g = (1 - w * (1 - escape)) * (side - base) / p * g * (1 - g)
        by_w = (memory - (1 - escape) * q) / p * w * (1 - w)
        grad = -np.stack([(share * by_g) @ seen, (share * by_w) @ seen]) + decay * weights
        first += 0.1 * (grad - first)
        second += 0.01 * (grad**2 - second)
        unbiased = (1 - 0.99**step) ** 0.5 / (1 - 0.9**step)
        weights -= 0.05 * unbiased * first / (np.sqrt(second) + 1e-8)
    return Gates(*weights.astype(np.float32))


def _logistic(x: NDArray[Any]) -> NDArray[Any]:
    made: NDArray[Any] = 1 / (1 + np.exp(-np.clip(x, -30, 30)))
    return made
