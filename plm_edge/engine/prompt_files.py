"""The files of the prompt cache are counted and removed here, without an engine."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

_ABOUT = "about.txt"  # the engine writes it: the model's path, the type of the cache


@dataclass(frozen=True)
class KeptPrompts:
    """Prompts of one model with one kind of cache.

    Attributes:
        model: the file they were computed with, as it was named then; empty if nothing tells.
        kv: type of the KV cache.
        n_files: blocks of prompts.
        n_tokens: tokens in them, beginnings that prompts share counted once.
        n_bytes: on disk.
        used: when one was used last, in seconds since 1970.
    """

    model: str
    kv: str
    n_files: int
    n_tokens: int
    n_bytes: int
    used: float


def kept(folder: Path) -> list[KeptPrompts]:
    """Returns what there is, the last used first; nothing where the folder is not there.

    Raises:
        OSError: it cannot be read.
    """
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for place in folder.iterdir():
            blocks = [(p, p.stat()) for p in place.glob("*.kv")] if place.is_dir() else []
            if not blocks:
                continue
            try:
                model, kv, *_ = (place / _ABOUT).read_text("utf-8", "replace").split("\n")
            except (OSError, ValueError):
                model, kv = "", ""
            found.append(
                KeptPrompts(
                    model,
                    kv,
                    len(blocks),
                    sum(_tokens(path) for path, _ in blocks),
                    sum(stat.st_size for _, stat in blocks),
                    max(stat.st_mtime for _, stat in blocks),
                )
            )
    return sorted(found, key=lambda prompts: -prompts.used)


def clear(folder: Path) -> int:
    """Remove all kept prompts; returns how many bytes that were.

    A program that runs meanwhile goes on without them.

    Raises:
        OSError: one cannot be removed.
    """
    freed = sum(prompts.n_bytes for prompts in kept(folder))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    return freed


def _tokens(block: Path) -> int:
    # PARENT-OWN-POSITION-TOKENS.kv
    last = block.stem.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0
