"""The paper's form, for comparison: the side's logits replace the base's, E (W_up r).

They have rank NARROW, and no part of the base's own answer. (arXiv 2403.07088 reads the layers'
outputs as they are; here it is given what the additive side is given.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.progress import Progress
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.spa import head, side
from plm_edge.spa.reading import Reading
from plm_edge.spa.training import Adam, Settings, copied

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Replaced:
    """Values that were trained, and the probabilities of each reading's tokens."""

    size: int
    likelihoods: tuple[Values, ...]


def replaced(
    header: GGUFFile,
    text: Reading,
    held: Reading,
    judged: Sequence[Reading],
    settings: Settings,
    progress: Progress,
    stop: Callable[[], bool],
) -> Replaced:
    """Train a replacing side, and judge readings by it.

    Raises:
        KeyboardInterrupt: `stop` said so.
    """
    output = np.concatenate([block for _, block in head.blocks(header)])
    states, width = text.rows.codes.shape[1:]
    weights = side.initial(states, width, output.shape[1], settings.seed)
    # from nothing: the logits begin small and not zero, so that all weights have a gradient
    rng = np.random.default_rng(settings.seed)
    weights.up += rng.normal(0, 0.01, weights.up.shape).astype(np.float32)
    adam, rng = Adam(weights, settings.rate), np.random.default_rng(settings.seed)
    best, best_epoch, kept = np.inf, 0, copied(weights)
    progress.begin(settings.epochs)
    for epoch in range(1, settings.epochs + 1):
        order = rng.permutation(len(text))
        for start in range(0, len(order), 4 * settings.batch):
            if stop():
                raise KeyboardInterrupt
            _step(weights, adam, output, text, order[start : start + 4 * settings.batch])
        progress.advance(1)
        now = -float(np.log(_judge(weights, output, held)).mean())
        if now < best:
            best, best_epoch, kept = now, epoch, copied(weights)
        elif epoch - best_epoch >= settings.patience:
            break
    return Replaced(weights.size, tuple(_judge(kept, output, reading) for reading in judged))


def _step(
    weights: side.Weights, adam: Adam, output: Values, text: Reading, chosen: NDArray[np.intp]
) -> None:
    rows = text.rows[chosen]
    states = rows.states()
    made = side.forward(weights, states)
    matrix = output @ weights.up  # M, [n_vocab, NARROW]
    p = _softmax(made.out @ matrix.T)
    p[np.arange(len(chosen)), text.targets[chosen]] -= 1
    p /= np.float32(len(chosen))
    grads = side.backward(weights, states, made, p @ matrix)
    grads.up = output.T @ (p.T @ made.out)
    adam.update(grads)


def _judge(weights: side.Weights, output: Values, reading: Reading) -> Values:
    found, matrix = [], output @ weights.up
    for start in range(0, len(reading), 256):
        part = slice(start, start + 256)
        rows = reading.rows[part]
        out = side.forward(weights, rows.states()).out
        p = _softmax(out @ matrix.T)
        found.append(p[np.arange(len(rows)), reading.targets[part]])
    made: Values = np.maximum(np.concatenate(found), np.float32(1e-30))
    return made


def _softmax(logits: Values) -> Values:
    logits -= logits.max(-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(-1, keepdims=True)
    return logits
