"""What a person names is looked at before the minutes of work, which it would have been for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import origin
from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import gguf_file, loadable


def model(path: Path) -> None:
    """Looks at a GGUF as `plm-edge` does before it loads it.

    Raises:
        PlmEdgeError: it is not there, no GGUF, or one that no engine loads.
    """
    loadable.check(gguf_file.read(path))


def out(path: Path) -> None:
    """Makes the folder of a result, and looks whether the file can be written.

    Raises:
        PlmEdgeError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        why = files.obstacle(path)
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise PlmEdgeError(
            f"{path} cannot be written", why, "give a file of a folder that you can write"
        )


def result(path: Path, schema: str, *, any_engine: bool = False) -> dict[str, Any]:
    """A result to which figures are to be added.

    Args:
        any_engine: what is added is a table of its own.

    Raises:
        PlmEdgeError: it is not there, not of `schema`, or of another engine: in one table nobody
            looks for figures of two.
    """
    again = "remove it, and measure all of it"
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlmEdgeError(f"nothing can be added to {path}", str(error), again) from error
    wrong = _unlike(found, schema) or ("" if any_engine else _of_another_engine(found))
    if wrong:
        raise PlmEdgeError(f"nothing can be added to {path}", wrong, again)
    return dict(found)


def _unlike(found: Any, schema: str) -> str:
    name = found.get("schema") if isinstance(found, dict) else None
    if name != schema:
        return f"its schema is {name or 'missing'}, not {schema}"
    return ""


def _of_another_engine(found: dict[str, Any]) -> str:
    ours, theirs = origin.engine()["pin"]["tree"], found["pin"]["tree"]
    if ours == theirs:
        return ""
    return f"it was measured with the engine of tree {theirs[:12]}; this one's is {ours[:12]}"
