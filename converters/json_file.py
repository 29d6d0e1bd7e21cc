"""This module reads a checkpoint's JSON files and says precisely what is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plm_edge.base.errors import PlmEdgeError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def refuse_lfs_pointer(path: Path, head: bytes) -> None:
    """Refuse a git-lfs pointer, which a clone without git-lfs leaves in place of a file.

    Args:
        path: named in the error.
        head: the file's first bytes.

    Raises:
        PlmEdgeError: the file is such a pointer.
    """
    if head.startswith(_LFS_POINTER):
        raise PlmEdgeError(
            f"{path.name} is a git-lfs pointer, not the file itself",
            f"{path} holds a few lines of text that say where the real file lies",
            "run `git lfs pull` in that folder, or download the checkpoint again",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in `path`.

    Raises:
        PlmEdgeError: missing, unreadable, a git-lfs pointer, not JSON, not an object, or an object
            in which a key occurs twice.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PlmEdgeError(
            f"the checkpoint has no {path.name}",
            f"there is no file {path}",
            f"download the whole checkpoint again, {path.name} included",
        ) from None
    except OSError as error:
        raise PlmEdgeError(
            f"cannot read {path.name}",
            f"{path}: {error.strerror}",
            "check the file and its permissions",
        ) from error
    refuse_lfs_pointer(path, data[:64])
    try:
        value = parse_json(data)
    except ValueError as error:
        raise PlmEdgeError(
            f"{path.name} is not valid JSON",
            f"{path}: {error}",
            "the file is damaged or incomplete: download it again",
        ) from error
    if not isinstance(value, dict):
        raise PlmEdgeError(
            f"{path.name} does not hold a JSON object",
            f"{path} holds a {type(value).__name__}",
            "download the file again",
        )
    return value


def parse_json(data: bytes) -> Any:
    """Parse UTF-8 JSON.

    Raises:
        ValueError: not UTF-8, not JSON, or an object in which a key occurs twice (json would keep
            the last one without a word).
    """
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice")
    return found
