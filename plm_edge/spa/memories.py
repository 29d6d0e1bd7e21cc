"""Both memories of a text, asked about a reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plm_edge.spa.memory import Memory, Recall
from plm_edge.spa.mixture import Likelihoods
from plm_edge.spa.nearest import Near, Nearest
from plm_edge.spa.reading import Reading

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Said:
    """What memories say of a reading.

    Attributes:
        recalls, near: before each judged token.
        memory, escape, nearest: of the judged tokens (mixture.Likelihoods).
    """

    recalls: Sequence[Recall]
    near: Near
    memory: Values
    escape: Values
    nearest: Values

    def beside(self, base: Values, side: Values) -> Likelihoods:
        """Returns all likelihoods of the judged tokens."""
        return Likelihoods(base, side, self.memory, self.escape, self.nearest)


@dataclass(frozen=True)
class Memories:
    """The followers of short contexts, and those of near states."""

    grams: Memory
    nearest: Nearest

    def judge(self, reading: Reading) -> Said:
        """Returns what they say of a reading's tokens."""
        stream, targets = reading.stream, reading.targets
        recalls = [self.grams.recall(stream[max(0, p - 3) : p].tolist()) for p in reading.places]
        near = self.nearest.ask(reading.rows)
        return Said(
            recalls,
            near,
            np.array([r.of(int(t)) for r, t in zip(recalls, targets, strict=True)], np.float32),
            np.array([recall.escape for recall in recalls], np.float32),
            self.nearest.of(near, targets),
        )
