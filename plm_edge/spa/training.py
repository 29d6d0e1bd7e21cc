"""The side is trained on what was read of the base: no step goes back through the base itself.

The loss of a row is -ln p(target), with the side's probabilities over the base's likeliest tokens
and its unchanged others (side.change). Its gradient by a logit is p - [is target], from there by
hand back through the few layers of the side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.base import files
from plm_edge.base.progress import Progress
from plm_edge.engine.options import never
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.spa import head, side
from plm_edge.spa.frame import Rows
from plm_edge.spa.reading import UNREADABLE, Reading

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How it is trained; the defaults are what docs/spa.md measures.

    Attributes:
        epochs: most passes over the text; the pass that predicted held-back text best is kept.
        patience: passes without a better one, after which it ends.
        batch: rows of a step.
        rate: of Adam.
        dropout: share of the states' values that a step does not see.
        seed: of the first weights and of the order.
    """

    epochs: int = 30
    patience: int = 4
    batch: int = 128
    rate: float = 1e-3
    dropout: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Head:
    """The rows of the output matrix that a text's candidates need.

    Attributes:
        ids: ascending token ids.
        rows: [ids, n_embd], float16.
    """

    ids: NDArray[np.int32]
    rows: NDArray[np.float16]

    @classmethod
    def of(cls, header: GGUFFile, candidates: NDArray[np.int32]) -> Head:
        """Returns what these candidates need."""
        ids = np.unique(candidates)
        return cls(ids, head.rows(header, ids))


def loss(rows: Rows, targets: NDArray[np.int32], base: Values, added: Values) -> Values:
    """Returns -ln p of each target under the side, [rows].

    Args:
        base: [rows], the natural logarithm of the base's probability of each target.
        added: [rows, TOP], to the base's logits.
    """
    changed = side.change(rows, added)
    is_target = rows.ids == targets[:, None]
    inside = np.where(is_target, changed.top, 0).sum(-1)
    return -np.where(is_target.any(-1), inside, base + changed.others).astype(np.float32)


def added(matrix: Values, ids: NDArray[np.int32], out: Values) -> Values:
    """Returns what the side adds: the product of each candidate's row with r, [rows, TOP].

    Args:
        matrix: [tokens, NARROW]; `ids` are its rows.
    """
    product: Values = np.einsum("rkn,rn->rk", matrix[ids], out, optimize=True)
    return product


class Adam:
    """Adam (Kingma and Ba, 2015) with its usual constants, over the weights of a side."""

    def __init__(self, weights: side.Weights, rate: float) -> None:
        self._weights, self._rate, self.steps = weights, rate, 0
        self.first = {name: np.zeros_like(array) for name, array in weights.arrays().items()}
        self.second = {name: np.zeros_like(array) for name, array in weights.arrays().items()}

    def update(self, grads: side.Weights) -> None:
        """Change the weights in place."""
        self.steps += 1
        step = self._rate * (1 - 0.999**self.steps) ** 0.5 / (1 - 0.9**self.steps)
        weights = self._weights.arrays()
        for name, grad in grads.arrays().items():
            first, second = self.first[name], self.second[name]
            first += np.float32(0.1) * (grad - first)
            second += np.float32(0.001) * (grad * grad - second)
            weights[name] -= np.float32(step) * first / (np.sqrt(second) + np.float32(1e-8))


class Trainer:
    """Steps of Adam over a reading.

    Args:
        text: trained on.
        held: judged after each pass; [its rows] are none of `text`'s.
        output: of the candidates of both.
    """

    def __init__(self, text: Reading, held: Reading, output: Head, settings: Settings) -> None:
        self._text, self._held, self._head = text, held, output
        self._settings = settings
        states, width = text.rows.codes.shape[1:]
        self.weights = side.initial(states, width, output.rows.shape[1], settings.seed)
        self._adam = Adam(self.weights, settings.rate)
        self.epoch, self.best_epoch, self.best = 0, 0, np.inf
        self.best_weights = copied(self.weights)

    def run(
        self,
        progress: Progress,
        kept: Path | None = None,
        stop: Callable[[], bool] = never,
    ) -> side.Weights:
        """Train, and return the weights of the best pass.

        Args:
            progress: counts passes.
            kept: where the state after each pass is written, and read if it is there.

        Raises:
            KeyboardInterrupt: `stop` said so; `kept` has the last whole pass.
        """
        if kept is not None and kept.is_file():
            self._load(kept)
        settings = self._settings
        progress.begin(settings.epochs)
        progress.advance(self.epoch)
        while self.epoch < settings.epochs and (
            self.epoch - self.best_epoch < settings.patience or not self.epoch
        ):
            self._pass(stop)
            self.epoch += 1
            now = self.judge(self.weights, self._held)
            if now < self.best:
                self.best, self.best_epoch = now, self.epoch
                self.best_weights = copied(self.weights)
            if kept is not None:
                self._save(kept)
            progress.advance(1)
        return self.best_weights

    def judge(self, weights: side.Weights, reading: Reading) -> float:
        """Returns the mean of -ln p of a reading's tokens under the side."""
        matrix = self._head.rows.astype(np.float32) @ weights.up
        total = 0.0
        for start in range(0, len(reading), 1024):
            part = slice(start, start + 1024)
            rows = reading.rows[part]
            places = np.searchsorted(self._head.ids, rows.ids).astype(np.int32)
            out = side.forward(weights, rows.states()).out
            made = added(matrix, places, out)
            total += float(loss(rows, reading.targets[part], reading.base[part], made).sum())
        return total / max(1, len(reading))

    def _pass(self, stop: Callable[[], bool]) -> None:
        settings, text = self._settings, self._text
        rng = np.random.default_rng((settings.seed, self.epoch))
        order = rng.permutation(len(text))
        for start in range(0, len(order), settings.batch):
            if stop():
                raise KeyboardInterrupt
            chosen = order[start : start + settings.batch]
            rows = text.rows[chosen]
            states = rows.states()
            mask = rng.random(states.shape, np.float32) >= settings.dropout
            states = states * mask / np.float32(1 - settings.dropout)
            self._adam.update(self.gradients(rows, text.targets[chosen], states))

    def gradients(self, rows: Rows, targets: NDArray[np.int32], states: Values) -> side.Weights:
        """Returns the gradients of the mean loss of some rows.

        Args:
            states: [rows, states, width], in place of those in `rows`.
        """
        unique = np.unique(rows.ids)
        places = np.searchsorted(unique, rows.ids).astype(np.int32)
        output = self._head.rows[np.searchsorted(self._head.ids, unique)].astype(np.float32)
        matrix = output @ self.weights.up
        made = side.forward(self.weights, states)
        changed = side.change(rows, added(matrix, places, made.out))
        d_added = (np.exp(changed.top) - (rows.ids == targets[:, None])) / np.float32(len(rows))
        d_out = np.einsum("rk,rkn->rn", d_added, matrix[places], optimize=True)
        grads = side.backward(self.weights, states, made, d_out)
        # of the matrix: each candidate's row gets d_added times r
        d_matrix = np.zeros_like(matrix)
        np.add.at(d_matrix, places.ravel(), (d_added[..., None] * made.out[:, None]).reshape(
            -1, matrix.shape[1]))  # fmt: skip
        grads.up = output.T @ d_matrix
        return grads

    def _save(self, path: Path) -> None:
        state: dict[str, NDArray[np.float32]] = {}
        for kind, arrays in self._state().items():
            state |= {f"{kind}.{name}": array for name, array in arrays.items()}
        counts = np.array([self.epoch, self.best_epoch, self._adam.steps, self.best])
        with files.replacing(path, files.PRIVATE, durable=False) as file:
            np.savez(file, counts=counts, **state)  # type: ignore[arg-type]

    def _load(self, path: Path) -> None:
        try:
            with np.load(path) as file:
                kept = dict(file)
            epoch, best_epoch, steps, best = kept["counts"]
            arrays = [
                (array, np.broadcast_to(kept[f"{kind}.{name}"], array.shape))
                for kind, part in self._state().items()
                for name, array in part.items()
            ]
        except UNREADABLE:
            return
        for array, value in arrays:  # all of them, or none
            array[...] = value
        self.epoch, self.best_epoch, self._adam.steps = int(epoch), int(best_epoch), int(steps)
        self.best = float(best)

    def _state(self) -> dict[str, dict[str, Values]]:
        return {
            "now": self.weights.arrays(), "best": self.best_weights.arrays(),
            "first": self._adam.first, "second": self._adam.second,
        }  # fmt: skip


def copied(weights: side.Weights) -> side.Weights:
    """Returns a copy."""
    return side.Weights(**{name: array.copy() for name, array in weights.arrays().items()})
