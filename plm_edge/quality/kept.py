"""What readings of a text keep on disk: a reference's predictions, and what was found so far.

A reference is kept so that a second model is compared at half the cost.
A chunk of the text is one file, [judged positions, n_vocab] in float32, written beside its name and
renamed: what an interrupted run computed is there when it is run again. All references together
take no more than a limit; the ones that were used longest ago make room.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.base import files, folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.quality.figures import Values
from plm_edge.quality.predictions import BLOCK_BYTES, Rows
from plm_edge.quality.text import Chunks

LIMIT = 4 << 30  # bytes of all references, and no more than SHARE of what is free
SHARE = 0.1


def default_limit(place: Path) -> int:
    """Returns the bytes that references may take on the disk of `place`."""
    while not place.exists():
        place = place.parent
    return min(LIMIT, int(SHARE * shutil.disk_usage(place).free))


def folder() -> Path:
    """Returns the folder of all that evaluations keep."""
    return folders.cache() / "eval"


def key(*parts: str | Chunks) -> str:
    """Returns a hash that names what is kept: of all that it depends on."""
    texts = [part.sha256() if isinstance(part, Chunks) else part for part in parts]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:32]


class KeptPredictions:
    """The chunks of one reference.

    Args:
        key: names reference, text and settings; a hash.
        rows, n_vocab: of a chunk.
        limit: most bytes of all references together; 0 keeps nothing and reads nothing; None takes
            `default_limit`.
    """

    def __init__(self, key: str, rows: int, n_vocab: int, limit: int | None = None) -> None:
        self._all = folder() / "references"
        self._folder = self._all / key
        self._shape = rows, n_vocab
        self._limit = default_limit(self._all) if limit is None else limit
        if self._folder.is_dir() and self._limit:
            os.utime(self._folder)

    @property
    def chunk_bytes(self) -> int:
        """Size of one chunk's file."""
        return 4 * self._shape[0] * self._shape[1]

    def has(self, chunk: int) -> bool:
        """Says whether a chunk is there, whole."""
        try:
            return self._limit > 0 and self._path(chunk).stat().st_size == self.chunk_bytes
        except OSError:
            return False

    def fits(self, count: int) -> bool:
        """Says whether `count` chunks are within the limit, other references put aside."""
        return count * self.chunk_bytes <= self._limit

    def read(self, chunk: int) -> Iterator[Rows]:
        """Yields a chunk that is there, some rows at a time."""
        kept = np.memmap(self._path(chunk), np.float32, "r", shape=self._shape)
        block = max(1, BLOCK_BYTES // (4 * self._shape[1]))
        for row in range(0, self._shape[0], block):
            yield kept[row : row + block]

    def keep(self, chunk: int, rows: Iterable[Rows]) -> Iterator[Rows]:
        """Yields `rows`, and keeps them once all were taken, if there is room. A full disk is no
        error: they are not kept then."""
        if not self._make_room():
            yield from rows
            return
        given = iter(rows)
        block: Rows | None = None
        try:
            with files.replacing(self._path(chunk), durable=False) as file:
                for block in given:
                    file.write(np.ascontiguousarray(block).data)
                    yield block
                    block = None
        except OSError:
            if block is not None:
                yield block
            yield from given

    def _path(self, chunk: int) -> Path:
        return self._folder / f"{chunk:05d}.f32"

    def _make_room(self) -> bool:
        mine = _size(self._folder) + self.chunk_bytes
        if mine > self._limit:
            return False
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            others = [place for place in self._all.iterdir() if place != self._folder]
            sizes = {place: _size(place) for place in others}
            for place in sorted(others, key=lambda place: place.stat().st_mtime):
                if mine + sum(sizes.values()) <= self._limit:
                    break
                shutil.rmtree(place, ignore_errors=True)
                del sizes[place]
            return shutil.disk_usage(self._folder).free > 2 * self.chunk_bytes
        return False


class KeptJudgements:
    """What was judged of each chunk, until an evaluation is whole: it goes on where it was.

    Args:
        key: names model, reference, text and settings; a hash.
    """

    def __init__(self, key: str) -> None:
        self._folder = folder() / "runs" / key

    def has(self, chunk: int) -> bool:
        """Says whether a chunk was judged."""
        return self._path(chunk).is_file()

    def keep(self, chunk: int, judged: Values) -> None:
        """Write what was judged of a chunk, [token, column].

        Raises:
            PlmEdgeError: it cannot be written (code ENVIRONMENT).
        """
        write(self._path(chunk), lambda file: np.save(file, judged))

    def all(self, count: int) -> Values:
        """Returns the first `count` chunks, which are there, one after the other: [token,
        column]."""
        return np.concatenate([np.load(self._path(chunk)) for chunk in range(count)])

    def forget(self) -> None:
        """Remove them all."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, chunk: int) -> Path:
        return self._folder / f"{chunk:05d}.npy"


class KeptSums:
    """Sums over the chunks read so far, until the whole text is read.

    Args:
        key: names model, text and settings; a hash.
    """

    def __init__(self, key: str) -> None:
        self._file = folder() / "runs" / key / "sums.npz"

    def read(self) -> dict[str, NDArray[Any]]:
        """Returns the arrays that were kept last, by name; none where nothing was kept."""
        try:
            with np.load(self._file) as kept:
                return dict(kept)
        except (FileNotFoundError, EOFError, ValueError, zipfile.BadZipFile):
            return {}  # not there, or cut short by a loss of power

    def keep(self, sums: Mapping[str, NDArray[Any]]) -> None:
        """Keep these arrays in place of those before.

        Raises:
            PlmEdgeError: they cannot be written (code ENVIRONMENT).
        """
        write(self._file, lambda file: np.savez(file, **sums))  # type: ignore[arg-type]

    def forget(self) -> None:
        """Remove them."""
        shutil.rmtree(self._file.parent, ignore_errors=True)


class KeptAnswers:
    """A model's answers to the requests of tasks, until all are there.

    Args:
        key: names model and settings; a hash.
    """

    def __init__(self, key: str) -> None:
        self._file = folder() / "runs" / key / "answers.jsonl"
        self._known: dict[str, Any] = {}
        self._begun = False
        with contextlib.suppress(FileNotFoundError):
            for line in self._file.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):  # cut short
                    name, answer = json.loads(line)
                    self._known[name] = answer

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def __getitem__(self, name: str) -> Any:
        """Returns an answer that is there: what JSON makes of it."""
        return self._known[name]

    def keep(self, name: str, answer: object) -> None:
        """Keep an answer, on disk at once.

        Args:
            name: of the request; a hash.
            answer: that JSON has a form of.

        Raises:
            PlmEdgeError: it cannot be written (code ENVIRONMENT).
        """
        line = json.dumps([name, answer]) + "\n"
        # what stands there may have been cut short: a new line begins whole
        with _writing(self._file), self._file.open("a", encoding="utf-8") as file:
            file.write(line if self._begun else f"\n{line}")
        self._begun = True
        self._known[name] = answer

    def forget(self) -> None:
        """Remove them all from disk."""
        shutil.rmtree(self._file.parent, ignore_errors=True)


def write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside its name and rename it.

    Raises:
        PlmEdgeError: it cannot be written (code ENVIRONMENT).
    """
    with _writing(path), files.replacing(path, durable=False) as file:
        fill(file)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    folders.ensure(path.parent)
    try:
        yield
    except OSError as error:
        raise PlmEdgeError(
            "what was found so far cannot be written",
            f"{path.parent}: {error.strerror}",
            "make room, or set PLM_EDGE_CACHE_DIR to another disk; then the same command again",
            ExitCode.ENVIRONMENT,
        ) from error


def _size(place: Path) -> int:
    total = 0
    for file in place.glob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total
