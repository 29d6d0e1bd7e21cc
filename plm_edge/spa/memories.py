"""Both memories of a text, asked about a reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plm_edge.spa.memory import ORDER, Memory, Recall
from plm_edge.spa.mixture import Likelihoods
from plm_edge.spa.nearest import TOGETHER, Nearest, Sureness
from plm_edge.spa.reading import Reading

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Said:
    """What memories say of a reading.

    Attributes:
        recalls, sureness: before each judged token.
        memory, escape, nearest: of the judged tokens (mixture.Likelihoods).
    """

    recalls: Sequence[Recall]
    sureness: Sureness
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
        recalls = [
            self.grams.recall(stream[max(0, p - ORDER) : p].tolist()) for p in reading.places
        ]
        sureness, nearest = self._near(reading)
        return Said(
            recalls,
            sureness,
            np.array([r.of(int(t)) for r, t in zip(recalls, targets, strict=True)], np.float32),
            np.array([recall.escape for recall in recalls], np.float32),
            nearest,
        )

    def _near(self, reading: Reading) -> tuple[Sureness, Values]:
        """What near states say: how sure they are, and s of the reading's tokens. The mass of all
        other tokens is of a few rows at a time: of all it would be as large as the vocabulary."""
        most, distance, of = (np.empty(len(reading), np.float32) for _ in range(3))
        targets = reading.targets
        for start in range(0, len(reading), TOGETHER):
            part = slice(start, start + TOGETHER)
            near = self.nearest.ask(reading.rows[part])
            most[part], distance[part] = near.sureness.most, near.sureness.distance
            of[part] = self.nearest.of(near, targets[part])
        return Sureness(most, distance), of
