"""manifest.json, beside a build's programs, says what the build holds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError

SCHEMA = "plm-edge/engine/1"
NAME = "manifest.json"


@dataclass(frozen=True)
class BuiltFile:
    """One file of a build. `path` relative to its folder, `size` in bytes.

    `instructions`: how many by extension (Linux's names), `guarded` those that run only where the
    CPU has them; `chosen`: the file itself is loaded only by a CPU that has all it holds.
    """

    path: str
    size: int
    sha256: str
    instructions: dict[str, int]
    guarded: dict[str, int]
    chosen: bool = False


@dataclass(frozen=True)
class Manifest:
    """A build of the engine.

    `key` tells builds apart; `tree` and `pin` what it was built from; `requires` the features that
    the CPU must have, by Linux's names; `glibc` the oldest that it runs with, or empty; `seconds`
    it took. `checked` says how the instructions are known: "read", or why they are not.
    """

    device: str
    key: str
    arch: str
    system: str
    triple: str
    cpu: str
    linkage: str
    compiler: str
    kernels: str
    backend: str
    version: str
    pin: str
    tree: str
    settings: dict[str, str]
    requires: tuple[str, ...]
    glibc: str
    checked: str
    files: tuple[BuiltFile, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    def write(self, folder: Path) -> None:
        """Write it into a build's folder: beside, then renamed."""
        files.write_text(folder / NAME, json.dumps(self.as_json(), indent=2) + "\n")


def read(folder: Path) -> Manifest:
    """Read a build's manifest.

    Raises:
        PlmEdgeError: there is none, or it is of another version.
    """
    path = folder / NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        files = tuple(BuiltFile(**item) for item in data.pop("files"))
        return Manifest(files=files, requires=tuple(data.pop("requires")), **data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlmEdgeError(
            f"{folder} is no build of the engine",
            f"{path.name}: {error}",
            "build it again: plm-edge engine build --device NAME",
        ) from error


def verify(folder: Path, manifest: Manifest) -> None:
    """See that a build's files are those that were built.

    Raises:
        PlmEdgeError: one is missing or was changed.
    """
    for item in manifest.files:
        path = folder / item.path
        if (
            not path.is_file()
            or path.stat().st_size != item.size
            or files.sha256(path) != item.sha256
        ):
            raise PlmEdgeError(
                f"the engine for {manifest.device} is damaged",
                f"{path} is {'changed' if path.is_file() else 'missing'}",
                f"build it again: plm-edge engine build --device {manifest.device} --force",
            )
