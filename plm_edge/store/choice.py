"""`choose` says which model a command means when it is given a path, or none."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import gguf_file
from plm_edge.store import bundled, registry


@dataclass(frozen=True)
class ModelChoice:
    """A GGUF's path; and whether a person gave it, converted it last, or it came with plm-edge."""

    path: Path
    origin: Literal["given", "newest", "bundled"]


def choose(given: Path | None) -> ModelChoice:
    """Choose the model at `given`; without it the newest that `convert` made, else the bundled.

    Raises:
        PlmEdgeError: `given` is missing or not a GGUF, or there is no bundled model.
    """
    if given is not None:
        check_is_gguf(given)
        return ModelChoice(given, "given")
    newest = registry.newest()
    if newest is not None:
        return ModelChoice(newest, "newest")
    return ModelChoice(bundled.model(), "bundled")


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
    folder = path.parent
    if not folder.is_dir():
        why, names = f"the folder {folder} does not exist", []
    else:
        names = [file.name for file in folder.glob("*.gguf")]
        why = f"{folder.resolve()} holds no file of that name"
    close = difflib.get_close_matches(path.name, names, n=1)
    fix = f"did you mean {folder / close[0]}?" if close else "check the path"
    return PlmEdgeError(f"there is no file {path}", why, fix)
