"""KL divergence over a text says how far a model's predictions are from a better one's.

windows = windows_of(reference, text)
measure = Divergence(reference, windows)
measure.of(quantised, kv="q8_0").mean()     # nats a token
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session

TEXT = Path(__file__).with_name("text.txt")
WINDOW = 128  # tokens
CHUNK = 64  # positions computed at once: their logits take CHUNK x vocabulary x 4 bytes
Logits = NDArray[np.float32]


class Divergence:
    """The reference's predictions, kept in a temporary file of positions x vocabulary x 4 bytes.

    Args:
        reference: the GGUF that counts as right; its cache is in f32.
        windows: token ids; each is a text of its own.
        threads: None: one a big core.

    Raises:
        PlmEdgeError: it cannot be run.
    """

    def __init__(
        self, reference: Path, windows: Sequence[Sequence[int]], threads: int | None = None
    ) -> None:
        self._windows, self._threads = windows, threads
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 -- as long as this object
        self._positions = sum(map(len, windows))
        self._size = 0
        for _, chunk in self._log_probabilities(reference, "f32", range(len(windows))):
            self._size = chunk.shape[1]
            chunk.tofile(self._file)
        self._file.flush()

    def of(self, path: Path, kv: str = "f32", step: int = 1) -> NDArray[np.float64]:
        """Returns [window]: sum of p·log(p/q) over the vocabulary, in nats, mean of a window's
        positions.

        p are the reference's probabilities, q those of the file at `path`, which must have its
        tokens, with a cache of type `kv`.

        Args:
            step: 2 takes every other window.
        """
        kept = np.memmap(
            self._file,
            np.float32,
            "r",
            shape=(self._positions, self._size),
        )
        starts = np.cumsum([0, *map(len, self._windows)])
        chosen = range(0, len(self._windows), step)
        sums = dict.fromkeys(chosen, 0.0)
        done = dict.fromkeys(chosen, 0)
        for window, theirs in self._log_probabilities(path, kv, chosen):
            if theirs.shape[1] != self._size:
                raise PlmEdgeError(
                    f"{path.name} cannot be compared with the reference",
                    f"it has {theirs.shape[1]:,} tokens, the reference {self._size:,}",
                    "compare files of one model",
                )
            at = starts[window] + done[window]
            ours = kept[at : at + len(theirs)]
            sums[window] += float((np.exp(ours) * (ours - theirs)).sum(dtype=np.float64))
            done[window] += len(theirs)
        return np.array([sums[window] / done[window] for window in chosen])

    def _log_probabilities(
        self, path: Path, kv: str, windows: Sequence[int]
    ) -> Iterator[tuple[int, Logits]]:
        """The window's number, and [position, vocabulary] of some of its positions, in order."""
        longest = max(map(len, self._windows))
        options = Options(
            n_ctx=longest, threads=self._threads, kv=kv, n_ubatch=min(CHUNK, longest),
            max_outputs=CHUNK,
        )  # fmt: skip
        with Session.open(path, options) as session:
            for window in windows:
                tokens = self._windows[window]
                session.context.clear()
                for start in range(0, len(tokens), session.context.n_batch):
                    made = logits(session, tokens[start : start + session.context.n_batch], start)
                    yield window, log_softmax(made)


def logits(session: Session, tokens: Sequence[int], position: int) -> Logits:
    """Returns [position, vocabulary] for tokens at `position` and after; a copy.

    Raises:
        PlmEdgeError: the engine cannot compute them.
    """
    batch = session.context.batch(len(tokens))
    batch.extend(tokens, position, wanted="all")
    session.context.decode(batch)
    return np.array(session.context.logits())


def log_softmax(made: Logits) -> Logits:
    """Puts the logarithms of probabilities in place of logits."""
    made -= made.max(1, keepdims=True)
    total = np.exp(made).sum(1, keepdims=True, dtype=np.float64)
    made -= np.log(total).astype(np.float32)
    return made


def windows_of(model: Path, text: str | None = None, most: int = 8) -> list[list[int]]:
    """Cuts the text into windows of WINDOW tokens, each begun anew; at most so many.

    Args:
        model: whose tokens.
        text: None: the one that is bundled (prose, code and data, written for this).

    Raises:
        PlmEdgeError: it is shorter than two tokens.
    """
    with Session.open(model, Options(n_ctx=WINDOW)) as session:
        tokens = session.tokenize(TEXT.read_text(encoding="utf-8") if text is None else text)
    windows = [tokens[at : at + WINDOW] for at in range(0, len(tokens), WINDOW)]
    whole = [window for window in windows if len(window) == WINDOW] or [
        window for window in windows if len(window) > 1
    ]
    if not whole:
        raise PlmEdgeError(
            "there is too little text to compare models on",
            f"it has {len(tokens)} tokens",
            "give a longer one with --text, or none",
        )
    return whole[:most]
