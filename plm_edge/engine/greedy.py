"""Greedy steps are the likeliest tokens one after the other, each with how clearly it won."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plm_edge.engine.session import Session


@dataclass(frozen=True)
class Step:
    """A token, and by how many nats it was likelier than the second."""

    token: int
    margin: float


def greedy(session: Session, prompt: Sequence[int], count: int) -> list[Step]:
    """Returns up to `count` tokens after `prompt`, fewer where the model ends. Forgets earlier
    generations.

    Args:
        prompt: at most `Context.n_batch` tokens.

    Raises:
        PlmEdgeError: the engine cannot compute them.
    """
    context = session.context
    context.clear()
    steps: list[Step] = []
    batch = list(prompt)
    while len(steps) < count:
        context.append(batch)
        logits = context.row_logits()
        # a difference of logits is one of logarithms of probabilities
        second, first = np.partition(logits, context.n_vocab - 2)[-2:]
        token = int(np.argmax(logits))
        if session.vocabulary.is_end(token):
            break
        steps.append(Step(token, float(first - second)))
        batch = [token]
    return steps
