"""A file says where it comes from and who made it, in keys of its own: plm_edge.*

Other programs overlook them. Some are known only when everything is written; they have their length
beforehand, so that the header does not change its size.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge import __version__
from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.keys import Keys, array, boolean, string
from plm_edge.model.description import (
    HASHES_KEY,
    RECIPE_KEY,
    REVISION_KEY,
    SOURCE_HASH_KEY,
    SOURCE_KEY,
    SYNTHETIC_KEY,
    VERSION_KEY,
)

# How config.json's "_note" begins in a checkpoint of random weights (benchmarks/synthetic.py).
SYNTHETIC_NOTE = "SYNTHETIC"
_UNKNOWN = "0" * 64


@dataclass(frozen=True)
class Origin:
    """Where a model comes from.

    Attributes:
        name: a repository, or the name of a folder or file.
        revision: the repository's commit.
        files: what a hash over the source covers, when no revision names its content.
        synthetic: it says that its weights are random.
    """

    name: str
    revision: str | None = None
    files: tuple[Path, ...] = ()
    synthetic: bool = False


def keys(origin: Origin, recipe: str, hashes: Iterable[str], source_hash: str | None) -> Keys:
    """Returns the keys that say where a file comes from and who made it.

    Args:
        recipe: the recipe in words.
        hashes: SHA-256 of each tensor's data, in the order of the file.
        source_hash: as of `SourceHash`, where the origin has files.
    """
    found = {
        VERSION_KEY: string(__version__),
        RECIPE_KEY: string(recipe),
        SOURCE_KEY: string(origin.name),
        HASHES_KEY: array(list(hashes)),
    }
    if origin.revision is not None:
        found[REVISION_KEY] = string(origin.revision)
    if source_hash is not None:
        found[SOURCE_HASH_KEY] = string(source_hash)
    if origin.synthetic:
        found[SYNTHETIC_KEY] = boolean(True)
    return found


def is_synthetic(config: Mapping[str, Any]) -> bool:
    """Returns whether a checkpoint's config.json says that its weights are random."""
    return str(config.get("_note", "")).startswith(SYNTHETIC_NOTE)


def unknown_keys(origin: Origin, recipe: str, tensors: int) -> Keys:
    """Returns the same keys, as long as the real ones, before anything is hashed."""
    return keys(origin, recipe, [_UNKNOWN] * tensors, _UNKNOWN if origin.files else None)


@dataclass
class SourceHash:
    """The hash of the source's files, taken on a thread beside the conversion.

    It is that of `sha256sum FILES | sha256sum`, with bare names in the order of the alphabet. The
    conversion reads the same files, so they are read from the disk once. Use it as a context
    manager; leaving it stops the thread.

    Attributes:
        files: the source's files.
    """

    files: tuple[Path, ...]

    def __enter__(self) -> SourceHash:
        self._stop = threading.Event()
        self._error: PlmEdgeError | None = None
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def result(self) -> str | None:
        """Wait for the hash; None where there are no files.

        Raises:
            PlmEdgeError: a file could not be read.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return hashlib.sha256("".join(self._lines).encode()).hexdigest() if self.files else None

    def _run(self) -> None:
        try:
            for path in sorted(self.files, key=lambda p: p.name):
                self._lines.append(f"{file_hash(path, self._stop)}  {path.name}\n")
        except PlmEdgeError as error:
            self._error = error


def file_hash(path: Path, stop: threading.Event | None = None) -> str:
    """Returns the SHA-256 of a file; of its beginning only, once `stop` is set.

    Raises:
        PlmEdgeError: it cannot be read.
    """
    try:
        return files.sha256(path, stop.is_set if stop else None)
    except OSError as error:
        raise PlmEdgeError(
            f"cannot read {path.name}",
            f"{path}: {error.strerror}",
            "check the disk, or download the checkpoint again",
        ) from error
