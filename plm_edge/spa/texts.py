"""A person's texts in a folder, and public ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from plm_edge.base.errors import PlmEdgeError
from plm_edge.quality import text

SUFFIXES = (".txt", ".md", ".rst", ".org", ".tex", ".html", ".csv", ".json", ".py")
_PUBLIC = 60_000  # characters of Python's own documentation


def personal(place: Path) -> list[tuple[str, str]]:
    """Returns name and content of each text in a folder and those below it, sorted by name; or of
    the one file that `place` is.

    Raises:
        PlmEdgeError: there is none, or one is no text.
    """
    if place.is_file():
        return [(place.name, text.read(place))]
    found = sorted(
        path
        for path in place.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and path.stat().st_size
    )
    if not found:
        raise PlmEdgeError(
            f"there is no text in {place}",
            f"no file in it ends in {', '.join(SUFFIXES)}"
            if place.is_dir()
            else "there is no such folder",
            "give a folder of texts, or one text file",
        )
    return [(str(path.relative_to(place)), text.read(path)) for path in found]


def public() -> list[str]:
    """Returns texts that anybody has: the ones of `quality`, and half of what Python's own help
    says (the Python Software Foundation's licence)."""
    return [text.read(text.BUNDLED), text.for_calibration(), *_topics(0)]


def general() -> list[str]:
    """Returns the other half of Python's help, a part of it: to judge by, as nothing learns it."""
    return _topics(1)


def _topics(half: int) -> list[str]:
    from pydoc_data.topics import topics

    taken, total = [], 0
    for name in sorted(topics, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if hashlib.sha256(name.encode()).digest()[-1] % 2 == half and len(topics[name]) < 20_000:
            taken.append(topics[name])
            total += len(topics[name])
            if total > (_PUBLIC if not half else _PUBLIC // 3):
                break
    return taken


def held_back(sizes: Sequence[int], share: float, seed: int) -> set[int]:
    """Returns which texts are held back: numbers of some that have about this share of all tokens.
    A single text is never held back.

    Args:
        sizes: tokens of each.
    """
    order = sorted(
        range(len(sizes)), key=lambda n: hashlib.sha256(f"{seed} {n} {sizes[n]}".encode()).digest()
    )
    taken: set[int] = set()
    for number in order:
        if not sizes[number]:  # none of it is here: `spa eval` keeps it out
            continue
        after = sum(sizes[n] for n in taken) + sizes[number]
        if after <= share * 1.3 * sum(sizes) and len(taken) < len(sizes) - 1:
            taken.add(number)
    return taken
