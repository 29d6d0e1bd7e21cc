"""`rm` deletes the files that `pull` placed, and only forgets all others."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.model import gguf_file
from plm_edge.store import elsewhere, names, registry
from plm_edge.store.registry import RegisteredModel


@dataclass(frozen=True)
class Removal:
    """What `rm` does with a model.

    Attributes:
        model: it is forgotten.
        files: these are deleted.
        aliases: these stand for it, and go with it.
        kept: why its file stays, as a sentence; empty where it is deleted or gone already.
    """

    model: RegisteredModel
    files: tuple[Path, ...]
    aliases: tuple[str, ...]
    kept: str


def plan(given: str) -> Removal:
    """Says what removing the model of this name, alias or path does.

    Raises:
        PlmEdgeError: there is none, or several.
    """
    known = registry.known()
    path = Path(given).expanduser()
    absolute = str(path.parent.resolve() / path.name)
    wanted = known.alias(given) or absolute
    found = [model for model in known.models if model.path == wanted]
    found = found or names.find(given, known.models)
    if len(found) > 1:
        raise names.ambiguous(given, found)
    if not found:
        if given.casefold() == names.BUNDLED:
            raise PlmEdgeError(
                f"{names.BUNDLED} cannot be removed alone",
                "it came with plm-edge, and is used only where there is no other model",
                "leave it; plm-edge uninstall names the command that removes all of plm-edge",
                ExitCode.USAGE,
            )
        if path.is_file():
            raise PlmEdgeError(
                f"{given} is not among the known models",
                "plm-edge did not put it there, and does not delete it",
                "delete it yourself; what is known: plm-edge list",
                ExitCode.USAGE,
            )
        raise names.unknown(given, known, to_run=False)
    return of_model(found[0], known)


def missing() -> list[Removal]:
    """What forgetting all models does whose file is gone."""
    known = registry.known()
    return [of_model(model, known) for model in known.models if not model.present]


def of_model(model: RegisteredModel, known: registry.Known) -> Removal:
    """Says what removing this model does."""
    aliases = tuple(name for name, path in (known.aliases or {}).items() if path == model.path)
    there = [part for part in gguf_file.shards(Path(model.path)) if part.is_file()]
    if not there:
        return Removal(model, (), aliases, "")
    if not model.placed:
        return Removal(model, (), aliases, "plm-edge did not download it")
    if sum(part.stat().st_size for part in there) != model.n_bytes:
        return Removal(model, (), aliases, "it is not the file any more that pull placed")
    return Removal(model, tuple(there), aliases, "")


def remove(removal: Removal) -> None:
    """Do it: delete the files and folders that are empty then, forget the model and its aliases.

    Raises:
        PlmEdgeError: a file cannot be deleted; nothing is forgotten then.
    """
    for file in removal.files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise PlmEdgeError(
                f"cannot delete {file}", error.strerror or str(error), "check its permissions"
            ) from error
        _prune(file.parent)
    try:
        registry.forget({removal.model.path})
    except OSError as error:
        raise registry.cannot_write(error) from error


def _prune(folder: Path) -> None:
    """Remove folders of ours that are empty now: below that of models, and never others."""
    root = elsewhere.models_folder().resolve()
    folder = folder.resolve()
    with contextlib.suppress(OSError):
        while folder != root and root in folder.parents:
            folder.rmdir()
            folder = folder.parent
