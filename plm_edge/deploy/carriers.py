"""Which devices carry a deployment is remembered here, so that nobody forgets one there."""

from __future__ import annotations

import json
from pathlib import Path

from plm_edge.base import files, folders

SCHEMA = "plm-edge/deployed/1"


def path() -> Path:
    """The file that remembers it."""
    return folders.data() / "deployed.json"


def names() -> list[str]:
    """The devices that something was put on, by the names that a person gave; empty where the file
    cannot be read: it is a convenience."""
    try:
        data = json.loads(path().read_text(encoding="utf-8"))
        found = data["devices"] if data["schema"] == SCHEMA else []
        return [name for name in found if isinstance(name, str)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def remember(name: str) -> None:
    """Remember that something was put on a device.

    Raises:
        OSError: the data folder cannot be written.
    """
    _change(name, carries=True)


def forget(name: str) -> None:
    """Forget it: nothing of ours is there any more.

    Raises:
        OSError: the data folder cannot be written.
    """
    if name in names():
        _change(name, carries=False)


def _change(name: str, *, carries: bool) -> None:
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(target.with_suffix(".lock")):
        kept = [other for other in names() if other != name]
        found = [*kept, name] if carries else kept
        text = json.dumps({"schema": SCHEMA, "devices": found}, indent=2)
        files.write_text(target, text, files.PRIVATE)
