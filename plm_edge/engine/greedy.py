"""The likeliest tokens one after the other, and how clearly each was the likeliest."""

from __future__ import annotations

import ctypes
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
    """`count` tokens after `prompt`, or fewer where the model ends. Forgets earlier generations.

    Raises:
        PlmEdgeError: the engine cannot compute them.
    """
    lc = session.bindings
    lc.llama_memory_clear(lc.llama_get_memory(session.ctx), False)
    size = lc.llama_vocab_n_tokens(session.vocab)
    steps: list[Step] = []
    batch = list(prompt)
    while len(steps) < count:
        session.decode(batch, abortable=False)
        pointer = ctypes.cast(
            lc.llama_get_logits_ith(session.ctx, -1), ctypes.POINTER(ctypes.c_float)
        )
        logits = np.ctypeslib.as_array(pointer, (size,))
        # a difference of logits is one of logarithms of probabilities
        second, first = np.partition(logits, size - 2)[-2:]
        token = int(np.argmax(logits))
        if session.is_end(token):
            break
        steps.append(Step(token, float(first - second)))
        batch = [token]
    return steps
