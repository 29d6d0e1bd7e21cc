"""All that plm-edge places on this machine is listed here, so that `uninstall` removes just that.

A part that keeps files of its own in one of our folders adds a row to `_ROWS`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plm_edge.base import folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.model import gguf_file
from plm_edge.store import elsewhere, registry

Kind = Literal["models", "chats", "data", "config", "cache"]
KINDS: tuple[Kind, ...] = ("models", "chats", "data", "config", "cache")
"""What a person can keep, each by its name."""


@dataclass(frozen=True)
class PlacedFiles:
    """Files and folders that are there, and what they are in words.

    Attributes:
        n_bytes: of all files together.
    """

    kind: Kind
    what: str
    paths: tuple[Path, ...]
    n_bytes: int


def everything(keep: Iterable[str] = ()) -> list[PlacedFiles]:
    """Returns what is there of all that was placed, without the kinds to keep."""
    found = []
    for kind, what, look in _ROWS:
        if kind in keep:
            continue
        paths = tuple(dict.fromkeys(path for path in look() if path.exists() or path.is_symlink()))
        if paths:
            found.append(PlacedFiles(kind, what, paths, sum(map(_size, paths))))
    return found


def remove(placed: Sequence[PlacedFiles]) -> list[Path]:
    """Remove what `everything` returned, and our folders where they are empty then.

    Returns:
        Files and folders in our folders that are not ours, and stay.

    Raises:
        PlmEdgeError: something cannot be deleted; what came before it is gone (code ENVIRONMENT).
    """
    for item in placed:
        for path in item.paths:
            try:
                _delete(path)
            except OSError as error:
                raise PlmEdgeError(
                    f"cannot delete {error.filename or path}",
                    error.strerror or str(error),
                    "check its permissions, and run plm-edge uninstall again",
                    ExitCode.ENVIRONMENT,
                ) from error
    stay = []
    for folder in _ours():
        _prune(folder)
        if folder.is_dir():
            stay += sorted(folder.iterdir())
    return stay


def _pulled() -> Iterable[Path]:
    for model in registry.known().models:
        whole = [part for part in gguf_file.shards(Path(model.path)) if part.is_file()]
        if model.placed and sum(part.stat().st_size for part in whole) == model.n_bytes:
            yield from whole


def _unfinished() -> Iterable[Path]:
    yield from elsewhere.models_folder().rglob("*.plm-edge.partial")


def _in(folder: Callable[[], Path], *patterns: str) -> Callable[[], Iterable[Path]]:
    """What these patterns find in one of our folders."""

    def look() -> Iterable[Path]:
        for pattern in patterns:
            yield from sorted(folder().glob(pattern))

    return look


_ROWS: tuple[tuple[Kind, str, Callable[[], Iterable[Path]]], ...] = (
    ("models", "models that pull placed", _pulled),
    ("models", "unfinished downloads", _unfinished),
    (
        "models",
        "the list of models and aliases",
        _in(folders.data, "models.json", "models.lock", "models.damaged-*.json"),
    ),
    ("chats", "chats", _in(folders.data, "chats", "chat-history*")),
    ("data", "measurements", _in(folders.data, "bench.sqlite*")),
    ("data", "keys and logs of servers", _in(folders.data, "serve")),
    ("data", "which devices were deployed to", _in(folders.data, "deployed.json", "deployed.lock")),
    (
        "config",
        "your devices and profiles",
        _in(folders.config, "devices", "devices.json", "devices.lock"),
    ),
    ("cache", "engines that were built", _in(folders.cache, "engines", "stock-[0-9]*")),
    ("cache", "emulated devices and counters", _in(folders.cache, "emulated", "qemu-plugins")),
    (
        "cache",
        "models that were converted for a test or a comparison",
        _in(folders.cache, "tiny-plm-*.gguf", "stock-layout-*.gguf", "types"),
    ),
    ("cache", "prompts that were kept", _in(folders.cache, "prompts")),
    ("cache", "predictions of references", _in(folders.cache, "eval")),
    ("cache", "what bases said of personal texts", _in(folders.cache, "spa")),
)


def _ours() -> list[Path]:
    return list(dict.fromkeys((folders.data(), folders.cache(), folders.config())))


def _size(path: Path) -> int:
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    total = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.lstat().st_size if file.is_symlink() or file.is_file() else 0
    return total


def _delete(path: Path) -> None:
    """Delete a file, a link (never what it points to), or a folder with all in it."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def _prune(folder: Path) -> None:
    """Remove a folder of ours and those below it that hold nothing."""
    for below in sorted(folder.rglob("*"), reverse=True):
        if below.is_dir() and not below.is_symlink():
            with contextlib.suppress(OSError):
                below.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
