"""The registry remembers a person's models and aliases, in the user's data folder.

It is only a convenience: if it is missing or cannot be written, no command stops for it. What is
damaged in it is left out when it is read, and kept in a file beside it before it is written anew.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from plm_edge.base import files, folders
from plm_edge.base.errors import ExitCode, PlmEdgeError

SCHEMA = "plm-edge/registry/2"
_READABLE = (SCHEMA, "plm-edge/registry/1")  # the first version knew path, source, quant, size, age
Origin = Literal["converted", "pulled", "added"]
Change = Callable[["Known"], "Known"]


@dataclass(frozen=True)
class RegisteredModel:
    """A model that a person has.

    Attributes:
        path: absolute.
        source: the checkpoint, repository or address that it came from.
        quant: the recipe's name or what the file's name says, such as q4_k_m.
        n_bytes: the file's size when it was added; all parts of a split one together.
        added: UTC, ISO 8601.
        origin: how it became known.
        repository: USER/REPO on the hub, where it came from there.
        sha256: of the file in hexadecimal, where it was compared with one; else empty.
        placed: plm-edge put the file there by `pull`, so that `rm` deletes it.
        name: what another program calls it, where the file's name is a hash.
    """

    path: str
    source: str
    quant: str
    n_bytes: int
    added: str
    origin: Origin = "converted"
    repository: str = ""
    sha256: str = ""
    placed: bool = False
    name: str = ""

    @property
    def present(self) -> bool:
        """Whether the file is there now."""
        return Path(self.path).is_file()


@dataclass(frozen=True)
class Known:
    """What the registry holds.

    Attributes:
        models: the oldest first; the files of some may be gone.
        aliases: absolute path by alias.
    """

    models: tuple[RegisteredModel, ...] = ()
    aliases: dict[str, str] | None = None

    def alias(self, name: str) -> str | None:
        """Returns the path that an alias stands for; None where there is no such alias."""
        return (self.aliases or {}).get(name)


def registry_path() -> Path:
    """The registry's file; PLM_EDGE_DATA_DIR overrides the user's data folder."""
    return folders.data() / "models.json"


def add_model(
    path: Path,
    source: str | Path,
    quant: str,
    *,
    origin: Origin = "converted",
    repository: str = "",
    sha256: str = "",
    placed: bool = False,
    n_bytes: int | None = None,
    name: str = "",
) -> RegisteredModel:
    """Remember the GGUF at `path` as the newest, and return its entry.

    Args:
        path: the GGUF.
        n_bytes: its size; that of the file when None.
        source, quant, origin, repository, sha256, placed, name: see RegisteredModel. A file that
            pull placed stays so when it is added again.

    Raises:
        OSError: the file is missing, or the data folder cannot be written.
    """
    path = path.parent.resolve() / path.name  # a link's own name says more than its target's
    entry = RegisteredModel(
        path=str(path),
        source=str(source),
        quant=quant,
        n_bytes=path.stat().st_size if n_bytes is None else n_bytes,
        added=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        origin=origin,
        repository=repository,
        sha256=sha256,
        placed=placed,
        name=name,
    )

    def add(known: Known) -> Known:
        before = [old for old in known.models if old.path == entry.path]
        again = origin == "added" and any(old.placed for old in before)
        new = replace(before[0], added=entry.added) if again else entry
        return replace(known, models=(*_without(known, {entry.path}), new))

    known = update(add)
    return next(model for model in known.models if model.path == entry.path)


def forget(paths: set[str]) -> Known:
    """Forget models and the aliases that stand for them; the files stay. Returns what is left.

    Raises:
        OSError: the data folder cannot be written.
    """

    def remove(known: Known) -> Known:
        aliases = {name: path for name, path in (known.aliases or {}).items() if path not in paths}
        return Known(_without(known, paths), aliases)

    return update(remove)


def update(change: Change) -> Known:
    """Read the registry, change it and write it, while no other process does; returns the new one.

    Raises:
        OSError: the data folder cannot be written.
    """
    target = registry_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two conversions that end together must not lose one entry.
    with files.locked(target.with_suffix(".lock")):
        known, whole = _read(target)
        if not whole:
            _keep_aside(target)
        changed = change(known)
        _write(target, changed)
    return changed


def cannot_write(error: OSError) -> PlmEdgeError:
    """The error for a registry that cannot be written, where that is all that a command does."""
    return PlmEdgeError(
        f"cannot write {registry_path()}",
        error.strerror or str(error),
        "check its permissions and the disk, or set PLM_EDGE_DATA_DIR to another folder",
        ExitCode.ENVIRONMENT,
    )


def known() -> Known:
    """All that is remembered, models whose file is gone among them."""
    return _read(registry_path())[0]


def damaged() -> list[Path]:
    """The registry itself where it cannot be read as a whole, and what was kept of it before."""
    path = registry_path()
    now = [] if _read(path)[1] else [path]
    return [*now, *sorted(path.parent.glob("models.damaged-*.json"))]


def entries() -> list[RegisteredModel]:
    """All remembered models, the oldest first, without those whose file is gone."""
    return [entry for entry in known().models if entry.present]


def newest() -> Path | None:
    """The path of the GGUF that was added last and still exists; None if there is none."""
    present = entries()
    return Path(present[-1].path) if present else None


def _without(known: Known, paths: set[str]) -> tuple[RegisteredModel, ...]:
    return tuple(model for model in known.models if model.path not in paths)


def _read(path: Path) -> tuple[Known, bool]:
    """What can be read; and whether that is all that there is."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] not in _READABLE:
            return Known(), False
        items, names = data["models"], data.get("aliases", {})
        models = tuple(filter(None, map(_model, items)))
        aliases = {name: value for name, value in names.items() if value and isinstance(value, str)}
    except FileNotFoundError:
        return Known(), True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Known(), False
    return Known(models, aliases), len(models) == len(items) and len(aliases) == len(names)


def _model(item: Any) -> RegisteredModel | None:
    """The entry of this JSON object; None if it is none."""
    if not isinstance(item, dict):
        return None
    wanted = {field.name: field for field in fields(RegisteredModel)}
    try:
        model = RegisteredModel(**{name: item[name] for name in wanted if name in item})
    except TypeError:  # a field without default is missing
        return None
    values = asdict(model)
    sound = type(values.pop("n_bytes")) is int and isinstance(values.pop("placed"), bool)
    sound = sound and model.origin in ("converted", "pulled", "added")
    return model if sound and all(isinstance(text, str) for text in values.values()) else None


def _keep_aside(path: Path) -> None:
    """Copy a registry that is damaged, or of a newer version, to where nothing overwrites it."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        number = 1
        while (beside := path.with_name(f"models.damaged-{number}.json")).exists():
            if beside.read_bytes() == content:
                return
            number += 1
        beside.write_bytes(content)


def _write(target: Path, known: Known) -> None:
    data = {
        "schema": SCHEMA,
        "models": [asdict(entry) for entry in known.models],
        "aliases": known.aliases or {},
    }
    files.write_text(target, json.dumps(data, indent=2), files.PRIVATE)
