"""Texts as the base reads them: of each token what the device would get before it.

A text is read in windows of WINDOW tokens, each begun anew. What was read of a window is a file in
the cache, so that an interrupted reading goes on where it was.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.base import files, folders
from plm_edge.base.progress import Progress
from plm_edge.spa.base import TOGETHER, Base
from plm_edge.spa.codec import Codec, make
from plm_edge.spa.frame import Rows, join
from plm_edge.spa.memory import BREAK

WINDOW = 512
UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)
"""What numpy raises at a file of its own that is damaged: it is made again."""


@dataclass(frozen=True)
class Window:
    """A part of a text.

    Attributes:
        given: what the base is given; where it wants one, a begin token stands before the first.
        first: the place of the first judged token in the stream.
        judged: how many of `given` a judged token follows, counted from its end.
    """

    text: int
    given: tuple[int, ...]
    first: int
    judged: int


@dataclass(frozen=True)
class Reading:
    """Some texts, read.

    Attributes:
        stream: [n], int32: their tokens, a BREAK after each text.
        rows: what the device gets before each judged token.
        places: [rows], int64: where in the stream that token stands.
        base: [rows], float32: the natural logarithm of the base's probability of it.
        texts: [rows], int32: the number of its text.
        windows: in which it was read, in the order of the rows; those of which `take` took a row.
    """

    stream: NDArray[np.int32]
    rows: Rows
    places: NDArray[np.int64]
    base: NDArray[np.float32]
    texts: NDArray[np.int32]
    windows: tuple[Window, ...]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def targets(self) -> NDArray[np.int32]:
        """The judged tokens, [rows]."""
        return self.stream[self.places]

    def take(self, wanted: NDArray[np.bool_]) -> Reading:
        """Returns these rows of it."""
        starts = np.searchsorted(self._starts(), np.flatnonzero(wanted), "right") - 1
        kept = tuple(self.windows[number] for number in np.unique(starts))
        return Reading(
            self.stream, self.rows[wanted], self.places[wanted], self.base[wanted],
            self.texts[wanted], kept,
        )  # fmt: skip

    def _starts(self) -> NDArray[np.int64]:
        """The first row of each window."""
        counts = [window.judged for window in self.windows]
        return np.cumsum([0, *counts[:-1]])


def folder() -> Path:
    """Returns the folder of all that is kept of readings."""
    return folders.cache() / "spa"


def windows(base: Base, texts: Sequence[str]) -> tuple[NDArray[np.int32], list[Window]]:
    """Returns the stream of some texts, and the windows in which it is read."""
    vocabulary = base.session.vocabulary
    begin = [] if vocabulary.begin is None else [vocabulary.begin]
    stream: list[int] = []
    made: list[Window] = []
    for number, text in enumerate(texts):
        tokens = vocabulary.tokenize(text, add_special=False, parse_special=False)
        size = WINDOW - len(begin)
        for start in range(0, len(tokens), size):
            part = tokens[start : start + size]
            given = (*begin, *part[:-1])
            if given:
                first = len(stream) + start + (0 if begin else 1)
                made.append(Window(number, given, first, len(given)))
        stream += [*tokens, BREAK]
    return np.array(stream, np.int32), made


def public_codec(base: Base, texts: Sequence[str], progress: Progress) -> Codec:
    """Returns the codec of what the base's states are on public texts."""
    _, parts = windows(base, texts)
    progress.begin(sum(len(window.given) for window in parts))
    read = []
    for window in parts:
        base.session.context.clear()
        for start in range(0, len(window.given), TOGETHER):
            part = window.given[start : start + TOGETHER]
            states, _ = base.compute([(t, start + i, 0) for i, t in enumerate(part)])
            # the first token's states are like no other's: a place where attention rests
            read.append(states[1:] if start == 0 else states)
            progress.advance(len(part))
    return make(np.concatenate(read), base.states.layers)


def read(base: Base, base_hash: str, texts: Sequence[str], progress: Progress) -> Reading:
    """Returns what the base says of some texts.

    Raises:
        PlmEdgeError: the engine cannot compute it.
        KeyboardInterrupt: `Options.stop` said so; windows that are whole are kept.
    """
    assert base.codec is not None
    stream, parts = windows(base, texts)
    progress.begin(sum(len(window.given) for window in parts))
    place = folder() / "readings"
    place.mkdir(parents=True, exist_ok=True)
    known = f"{base.session.engine['tree']} {base_hash} {base.codec.sha256()}"
    rows, places, logs, numbers = [], [], [], []
    for window in parts:
        right = stream[window.first : window.first + window.judged]
        key = hashlib.sha256(f"{known} {window.given} {right[-1]}".encode()).hexdigest()[:32]
        kept = place / f"{key}.npz"
        found = _load(kept)
        if found is None:
            found = _read_window(base, window, right)
            _keep(kept, *found)
        progress.advance(len(window.given))
        rows.append(found[0])
        logs.append(found[1])
        places.append(window.first + np.arange(window.judged))
        numbers.append(np.full(window.judged, window.text, np.int32))
    return Reading(
        stream, join(rows), np.concatenate(places), np.concatenate(logs),
        np.concatenate(numbers), tuple(parts),
    )  # fmt: skip


def _read_window(
    base: Base, window: Window, right: NDArray[np.int32]
) -> tuple[Rows, NDArray[np.float32]]:
    base.session.context.clear()
    parts, logs = [], []
    for start in range(0, len(window.given), TOGETHER):
        part = window.given[start : start + TOGETHER]
        rows, logits = base.read([(t, start + i, 0) for i, t in enumerate(part)])
        most = logits.max(-1)
        norm = np.log(np.exp(logits - most[:, None]).sum(-1, dtype=np.float64)) + most
        own = logits[np.arange(len(part)), right[start : start + len(part)]]
        parts.append(rows)
        logs.append((own - norm).astype(np.float32))
    return join(parts), np.concatenate(logs)


def _load(path: Path) -> tuple[Rows, NDArray[np.float32]] | None:
    try:
        with np.load(path) as kept:
            rows = Rows(*(kept[name] for name in ("codes", "scales", "ids", "logits", "rest")))
            return rows, kept["base"]
    except UNREADABLE:
        return None


def _keep(path: Path, rows: Rows, logs: NDArray[np.float32]) -> None:
    with files.replacing(path, files.PRIVATE, durable=False) as file:
        np.savez(file, base=logs, **vars(rows))
