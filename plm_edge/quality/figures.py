"""What the judged tokens say together: means, their error bars, and the tails.

An error bar is the standard error of the mean over tokens, as llama-perplexity gives it. Tokens of
one text are not independent, so the true error is somewhat larger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Perplexity:
    """How surprised a model is by a text.

    Attributes:
        tokens: that were judged.
        nats: mean negative log probability of a token.
        value: e to the power of `nats`.
    """

    tokens: int
    nats: Estimate
    value: Estimate


@dataclass(frozen=True)
class Comparison:
    """How far a model's predictions are from a reference's.

    Attributes:
        mean, median, p90, p99, max: of the KL divergence of the reference from the model, nats a
            token.
        same_top: share of tokens for which both find the same one likeliest, 0 to 1.
        p_change: mean change of the probability of the text's own token, model less reference,
            -1 to 1.
        p_change_rms: root of the mean square of that change.
        p_change_p1, p_change_p99: 1 % of the tokens lose more than this, 1 % gain more.
        reference: the reference's own perplexity.
        ln_ratio: logarithm of the model's perplexity by the reference's.
    """

    mean: Estimate
    median: float
    p90: float
    p99: float
    max: float
    same_top: Estimate
    p_change: Estimate
    p_change_rms: Estimate
    p_change_p1: float
    p_change_p99: float
    reference: Perplexity
    ln_ratio: Estimate


def estimate(values: Values) -> Estimate:
    """Returns the mean and its standard error; the error is 0 for a single value."""
    n = len(values)
    mean = float(values.mean())
    variance = max(0.0, float(np.square(values).mean()) - mean * mean)
    return Estimate(mean, math.sqrt(variance / (n - 1)) if n > 1 else 0.0)


def perplexity(nats: Values) -> Perplexity:
    """Returns the perplexity of tokens whose negative log probabilities are `nats`."""
    mean = estimate(nats)
    value = math.exp(mean.value)
    return Perplexity(len(nats), mean, Estimate(value, value * mean.error))


def compare(nats: Values, reference_nats: Values, kl: Values, same_top: Values) -> Comparison:
    """Returns how a model compares with its reference; all four are [token].

    Args:
        nats: negative log probabilities of the text's tokens, by the model.
        reference_nats: and by the reference.
        kl: KL divergence at each token, in nats.
        same_top: 1 where both find the same token likeliest, else 0.
    """
    change = np.exp(-nats) - np.exp(-reference_nats)
    square = estimate(np.square(change))
    rms = math.sqrt(square.value)
    p1, p99 = np.quantile(change, (0.01, 0.99))
    median, kl90, kl99 = np.quantile(kl, (0.5, 0.9, 0.99))
    return Comparison(
        mean=estimate(kl),
        median=float(median),
        p90=float(kl90),
        p99=float(kl99),
        max=float(kl.max()),
        same_top=estimate(same_top),
        p_change=estimate(change),
        p_change_rms=Estimate(rms, 0.5 * square.error / rms if rms else 0.0),
        p_change_p1=float(p1),
        p_change_p99=float(p99),
        reference=perplexity(reference_nats),
        ln_ratio=estimate(nats - reference_nats),
    )
