"""How far a quantised tiny-plm is from the f32 one: KL divergence, through the engine.

    measure = Divergence(Engine.of_project(), f32_gguf, held_out_windows(20))
    measure.of(gguf)                                # [window], nats a token

A file must have tiny-plm's tokens; nothing else is assumed of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tests.parity.engine import Engine, Logits, Setting, rows

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "examples/tiny-plm/checkpoint"
WINDOW = 512  # tokens


class Divergence:
    """`reference`: the GGUF that counts as right. `windows`: token ids; each is a text of its
    own."""

    def __init__(
        self, engine: Engine, reference: Path, windows: Sequence[Sequence[int]], threads: int = 1
    ) -> None:
        self._engine, self._windows, self._threads = engine, windows, threads
        self._reference = self._log_probabilities(reference)

    def of(self, path: Path, step: int = 1) -> NDArray[np.float64]:
        """[window]: sum of p·log(p/q) over the vocabulary, in nats, mean of a window's positions.
        p: the reference's probabilities, q: those of the file at `path`. `step`: 2 takes every
        other window."""
        found = self._log_probabilities(path, step)
        return np.array(
            [
                (np.exp(ours) * (ours - theirs)).sum(dtype=np.float64) / len(ours)
                for ours, theirs in zip(self._reference[::step], found, strict=True)
            ]
        )

    def _log_probabilities(self, path: Path, step: int = 1) -> list[Logits]:
        """Of each window, [position, vocabulary]."""
        model = self._engine.load(path)
        longest = max(map(len, self._windows))
        # The cache in f32: its rounding is not what is measured.
        setting = Setting(cache="f32", context=longest, threads=self._threads)
        made = []
        for window in self._windows[::step]:
            with model.context(setting) as context:
                made.append(_normalised(context.decode(rows(window))))
        return made


def _normalised(logits: Logits) -> Logits:
    logits -= logits.max(1, keepdims=True)
    total = np.exp(logits).sum(1, keepdims=True, dtype=np.float64)
    logits -= np.log(total).astype(np.float32)
    return logits


def held_out_windows(count: int) -> list[list[int]]:
    """The middle of `count` files of the standard library that tiny-plm was not trained on, each
    of another file, in the order of their hashes. (Of the Python that it was trained with: see
    examples/tiny-plm/README.md.)"""
    sys.path.insert(0, str(ROOT / "examples/tiny-plm"))
    from corpus import read_sources

    tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    windows: list[list[int]] = []
    for source in read_sources():
        if source.held_out and len(windows) < count:
            ids = tokenizer.encode(source.text).ids
            start = (len(ids) - WINDOW) // 2
            if start >= 0:
                windows.append(ids[start : start + WINDOW])
    if len(windows) < count:
        sys.exit(
            f"error: {count} windows are not to be had\n  why: {len(windows)} held-out files are "
            f"long enough\n  fix: ask for fewer --windows"
        )
    return windows
