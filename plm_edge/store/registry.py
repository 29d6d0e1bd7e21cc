"""The registry remembers the GGUFs that `convert` made, in the user's data folder.

It is only a convenience: if it is missing, damaged or cannot be written, no command stops for it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from plm_edge.base import files, folders

SCHEMA = "plm-edge/registry/1"


@dataclass(frozen=True)
class RegisteredModel:
    """A converted model. `added` is UTC, ISO 8601; `n_bytes` was the file's size at that time."""

    path: str
    source: str
    quant: str
    n_bytes: int
    added: str


def registry_path() -> Path:
    """The registry's file; PLM_EDGE_DATA_DIR overrides the user's data folder."""
    return folders.data() / "models.json"


def add_model(path: Path, source: str | Path, quant: str) -> None:
    """Remember the GGUF at `path` as the newest.

    Args:
        path: the GGUF.
        source: the checkpoint that it was made from.
        quant: the recipe's name, such as q4_k_m.

    Raises:
        OSError: the file is missing, or the data folder cannot be written.
    """
    path = path.resolve()
    entry = RegisteredModel(
        path=str(path),
        source=str(source),
        quant=quant,
        n_bytes=path.stat().st_size,
        added=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    target = registry_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two conversions that end together must not lose one entry.
    with files.locked(target.with_suffix(".lock")):
        kept = [old for old in entries() if old.path != entry.path]
        _write(target, [*kept, entry])


def entries() -> list[RegisteredModel]:
    """All remembered models, the oldest first, without those whose file is gone."""
    return [entry for entry in _read(registry_path()) if Path(entry.path).is_file()]


def newest() -> Path | None:
    """The path of the GGUF that was converted last and still exists; None if there is none."""
    known = entries()
    return Path(known[-1].path) if known else None


def _read(path: Path) -> list[RegisteredModel]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            return []
        return [RegisteredModel(**_strings(item)) for item in data["models"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _strings(item: dict[str, Any]) -> dict[str, Any]:
    """Return `item` if its values have the types of a RegisteredModel, else raise TypeError."""
    for name in ("path", "source", "quant", "added"):
        if not isinstance(item[name], str):
            raise TypeError(name)
    return item


def _write(target: Path, models: list[RegisteredModel]) -> None:
    data = {"schema": SCHEMA, "models": [asdict(entry) for entry in models]}
    files.write_text(target, json.dumps(data, indent=2), files.PRIVATE)
