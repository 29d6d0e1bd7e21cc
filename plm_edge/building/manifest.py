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
    """One file of a build. `path` is relative to the build's folder, `size` in bytes.

    `instructions` counts them by extension (Linux's names), `guarded` counts those that run only if
    the CPU has them. `chosen` means that only a CPU that has all of them loads the file.
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

    `key` is the hash of all that makes builds differ (`build.key_of`). `tree` and `pin` say what it
    was built from, `requires` which features the CPU must have (Linux's names), `glibc` the oldest
    version that it runs with (or empty), `seconds` how long the build took. `checked` is "read" if
    its instructions were read, else why they were not.
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
        """Write it as manifest.json into a build's folder."""
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
        why = f"{path.name}: {error.strerror if isinstance(error, OSError) else error}"
        raise PlmEdgeError(
            f"{folder} is no build of the engine",
            why,
            "build it again: plm-edge engine build --device NAME",
        ) from error


def verify(folder: Path, manifest: Manifest) -> None:
    """Check that a build's files are those that were built, by size and SHA-256.

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
