"""The side: a small network without attention, whose answer is added to the base's logits.

With z_s the state s through the codec (64 values), after arXiv 2403.07088 but additive:

    a_0 = relu(D_0 z_0 + b_0),   a_s = relu(D_s z_s + b_s + a_{s-1} + R_s relu(H_s a_{s-1}))
    r = P a,   logit of t = the base's + M_t · r,   M = E W_up

E is the base's output matrix, frozen; the device needs M alone. Only the base's likeliest tokens
change (frame.TOP), the others keep their logits: then the device has all that the sum of
probabilities needs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from plm_edge.spa.frame import Rows

HIDDEN, NARROW = 64, 32
Values = NDArray[np.float32]


@dataclass
class Weights:
    """What is trained; float32.

    Attributes:
        d: [states, HIDDEN, width].
        b: [states, HIDDEN].
        h, r: [states - 1, HIDDEN, HIDDEN].
        p: [NARROW, HIDDEN].
        up: [n_embd, NARROW].
    """

    d: Values
    b: Values
    h: Values
    r: Values
    p: Values
    up: Values

    def arrays(self) -> dict[str, Values]:
        """Returns them by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(array.size for array in self.arrays().values())


def initial(states: int, width: int, n_embd: int, seed: int) -> Weights:
    """Returns weights that change nothing yet: `up` is 0."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Values:
        return (rng.normal(0, shape[-1] ** -0.5, shape)).astype(np.float32)

    return Weights(
        normal(states, HIDDEN, width) / np.float32(states**0.5),
        np.zeros((states, HIDDEN), np.float32),
        normal(states - 1, HIDDEN, HIDDEN),
        np.zeros((states - 1, HIDDEN, HIDDEN), np.float32),
        normal(NARROW, HIDDEN),
        np.zeros((n_embd, NARROW), np.float32),
    )


@dataclass
class Pass:
    """What a forward pass leaves for the way back: per state the activations."""

    active: list[Values]  # a_s, [rows, HIDDEN]
    inner: list[Values]  # relu(H_s a_{s-1})
    out: Values  # r, [rows, NARROW]


def forward(weights: Weights, states: Values) -> Pass:
    """Returns r of rows, and what lies on the way.

    Args:
        states: [rows, states, width].
    """
    active = [np.maximum(states[:, 0] @ weights.d[0].T + weights.b[0], 0)]
    inner: list[Values] = []
    for index in range(1, states.shape[1]):
        before = active[-1]
        inner.append(np.maximum(before @ weights.h[index - 1].T, 0))
        total = states[:, index] @ weights.d[index].T + weights.b[index] + before
        active.append(np.maximum(total + inner[-1] @ weights.r[index - 1].T, 0))
    return Pass(active, inner, active[-1] @ weights.p.T)


def backward(weights: Weights, states: Values, made: Pass, d_out: Values) -> Weights:
    """Returns the gradients of all weights but `up`, which stays 0.

    Args:
        d_out: of the loss by r, [rows, NARROW].
    """
    grads = Weights(**{name: np.zeros_like(array) for name, array in weights.arrays().items()})
    grads.p = d_out.T @ made.active[-1]
    d_active = d_out @ weights.p
    for index in range(states.shape[1] - 1, -1, -1):
        d_total = d_active * (made.active[index] > 0)
        grads.d[index] = d_total.T @ states[:, index]
        grads.b[index] = d_total.sum(0)
        if not index:
            break
        grads.r[index - 1] = d_total.T @ made.inner[index - 1]
        d_inner = (d_total @ weights.r[index - 1]) * (made.inner[index - 1] > 0)
        grads.h[index - 1] = d_inner.T @ made.active[index - 1]
        d_active = d_total + d_inner @ weights.h[index - 1]
    return grads


@dataclass(frozen=True)
class Changed:
    """What the side makes of the base's likeliest tokens.

    Attributes:
        top: [rows, TOP]: natural logarithms of their probabilities.
        others: [rows]: what is added to the logarithm of any other token's probability.
    """

    top: Values
    others: Values


def change(rows: Rows, added: Values) -> Changed:
    """Returns the side's probabilities.

    Args:
        added: [rows, TOP], to the base's logits.
    """
    base = rows.log_probabilities()
    top = base + added
    most = np.maximum(top.max(-1), rows.rest)
    total = np.exp(top - most[:, None]).sum(-1) + np.exp(rows.rest - most)
    norm = (np.log(total) + most).astype(np.float32)
    return Changed(top - norm[:, None], -norm)
