"""`choose` says which model a command means when it is given a path or a name, or none."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import gguf_file
from plm_edge.store import bundled, names, registry

VARIABLE = "PLM_EDGE_MODEL"
"""The environment variable that names the model when no argument does."""


@dataclass(frozen=True)
class ModelChoice:
    """A GGUF's path, and why it is this one.

    Attributes:
        path: of the GGUF.
        origin: a person named it, or PLM_EDGE_MODEL does; it was converted, pulled or added last;
            or it came with plm-edge.
    """

    path: Path
    origin: Literal["given", "environment", "newest", "bundled"]

    @property
    def name(self) -> str:
        """What a person can call it: USER/REPO:QUANT of a pulled model, else its file's stem."""
        if self.origin == "bundled":
            return names.BUNDLED
        path = str(self.path.absolute().resolve())
        for model in registry.known().models:
            if model.path == path:
                return names.shown_name(model)
        return self.path.stem


def choose(given: str | Path | None) -> ModelChoice:
    """Choose the model that a person named, or the one that is meant when nobody named one.

    Args:
        given: the path of a GGUF, an alias, or a model's name: its file's stem, NAME:QUANT, or
            USER/REPO:QUANT of a pulled one. None takes what PLM_EDGE_MODEL names, else the newest
            that was converted, pulled or added, else the bundled model.

    Raises:
        PlmEdgeError: it is missing, not a GGUF, or the name of several; or there is no bundled
            model.
    """
    if given is not None:
        return ModelChoice(_gguf(str(given)), "given")
    named = os.environ.get(VARIABLE)
    if named:
        try:
            return ModelChoice(_gguf(named), "environment")
        except PlmEdgeError as error:
            why = f"{VARIABLE} is {named}: {error.why}"
            raise PlmEdgeError(error.what, why, error.fix, error.code) from error
    newest = registry.newest()
    if newest is not None:
        return ModelChoice(newest, "newest")
    return ModelChoice(bundled.model(), "bundled")


def locate(given: str) -> Path:
    """Returns the path that a person means, of whatever is there: a path first, then the names.

    Raises:
        PlmEdgeError: there is nothing of this name, or several.
    """
    path = Path(given).expanduser()
    if given and os.path.lexists(path):
        return path
    known = registry.known()
    found = _named(given, known)
    if found is not None:
        return found
    raise _missing(path) if _is_path(given) else names.unknown(given, known)


def check_is_gguf(path: Path) -> None:
    """Refuse a path that is no GGUF.

    Raises:
        PlmEdgeError: `path` is missing, a folder, or not a GGUF.
    """
    if path.is_dir():
        raise _folder(path)
    if not path.exists():
        raise _missing(path)
    if not gguf_file.is_gguf(path):
        gguf_file.read(path)  # raises, and says what it is instead


def _gguf(given: str) -> Path:
    path = locate(given)
    if path.is_dir():  # a folder cannot run; a model may have the same name
        path = _named(given, registry.known()) or path
    check_is_gguf(path)
    return path


def _named(given: str, known: registry.Known) -> Path | None:
    """The path of the model with this name; None where there is none.

    Raises:
        PlmEdgeError: its file is gone, or it is the name of several.
    """
    target = known.alias(given)
    if target is not None:
        if not Path(target).is_file():
            raise _gone(f"the alias {given} stands for a file that is gone", target, given)
        return Path(target)
    found = names.find(given, known.models)
    present = [model for model in found if model.present]
    if len(present) == 1:
        return Path(present[0].path)
    if present:
        raise names.ambiguous(given, present)
    if found:
        raise _gone(f"the file of {given} is gone", found[-1].path, given)
    return bundled.model() if given.casefold() == names.BUNDLED else None


def _is_path(given: str) -> bool:
    """Says whether a person who wrote this can only have meant a file."""
    if given.endswith(".gguf") or given.startswith((".", "~", os.sep)):
        return True
    return os.sep in given and names.split_hub(given) is None


def _gone(what: str, path: str, name: str) -> PlmEdgeError:
    return PlmEdgeError(
        what,
        f"{path} was moved or deleted, or its disk is not mounted",
        f"bring it back, or forget it: plm-edge rm {name}",
    )


def _folder(path: Path) -> PlmEdgeError:
    models = sorted(path.glob("*.gguf"))
    if models:
        return PlmEdgeError(
            f"{path} is a folder",
            f"it holds {len(models)} GGUF model{'s' * (len(models) > 1)}, and a file is wanted",
            f"give the file: {models[0]}",
        )
    if (path / "config.json").is_file():
        return PlmEdgeError(
            f"{path} is a checkpoint, not yet a model that can run",
            "the engine runs GGUF files",
            f"convert it first: plm-edge convert {path}",
        )
    return PlmEdgeError(
        f"{path} is a folder without a model",
        "there is neither a .gguf file nor a config.json in it",
        "give a .gguf file",
    )


def _missing(path: Path) -> PlmEdgeError:
    if path.is_symlink():
        return PlmEdgeError(
            f"{path} leads to no file",
            f"it is a link to {path.readlink()}, which is not there",
            "bring that file back, or give another one",
        )
    folder = path.parent
    if not folder.is_dir():
        why, names_there = f"the folder {folder} does not exist", []
    else:
        names_there = [file.name for file in folder.glob("*.gguf")]
        why = f"{folder.resolve()} holds no file of that name"
    close = difflib.get_close_matches(path.name, names_there, n=1)
    fix = f"did you mean {folder / close[0]}?" if close else "check the path"
    return PlmEdgeError(f"there is no file {path}", why, fix)
