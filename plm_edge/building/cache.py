"""The cache keeps one folder a build, named after all that made the build."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base import files, folders
from plm_edge.base.errors import PlmEdgeError
from plm_edge.building import manifest
from plm_edge.building.manifest import Manifest
from plm_edge.engine import library


@dataclass(frozen=True)
class KeptBuild:
    """A build in the cache: `folder` holds bin/, licences/ and manifest.json."""

    folder: Path
    manifest: Manifest

    @property
    def programs(self) -> Path:
        """The folder with the programs, and with the libraries if there are any."""
        return self.folder / "bin"

    @property
    def size(self) -> int:
        """The size of all its files, in bytes."""
        return sum(item.size for item in self.manifest.files)

    @property
    def current(self) -> bool:
        """Whether it was built from the source tree of this plm-edge."""
        return self.manifest.tree == library.read_pin().tree


def folder() -> Path:
    """The folder in which builds are kept."""
    return folders.cache() / "engines"


def work(name: str) -> Path:
    """The folder in which a build is made. After a failure the next try continues there."""
    return folder() / ".work" / name


def zig_cache() -> Path:
    """The folder of zig's cache: zig builds its C and C++ libraries once for each target."""
    return folder() / ".zig"


def read(place: Path) -> KeptBuild | None:
    """The build in a folder; None if its manifest is missing or cannot be read."""
    try:
        return KeptBuild(place, manifest.read(place))
    except PlmEdgeError:
        return None


def builds() -> list[KeptBuild]:
    """All builds, sorted by device, for each device the newest first."""
    found = [build for place in folder().glob("*-*/") if (build := read(place))]
    return sorted(found, key=lambda build: (build.manifest.device, -_age(build)))


def _age(build: KeptBuild) -> float:
    return (build.folder / manifest.NAME).stat().st_mtime


def find(device: str) -> KeptBuild:
    """The newest build for a device that was made from this plm-edge's source tree.

    Raises:
        PlmEdgeError: there is none.
    """
    of_device = [build for build in builds() if build.manifest.device == device]
    for build in of_device:
        if build.current:
            return build
    raise PlmEdgeError(
        f"there is no engine for {device}",
        f"{folder()} has {'older ones only' if of_device else 'none'}",
        f"build it: plm-edge engine build --device {device}",
    )


def clean(device: str | None = None, *, everything: bool = False) -> tuple[int, int]:
    """Remove builds.

    Args:
        device: remove all builds for this device, and no others. None removes, for every device,
            the builds from another source tree.
        everything: remove all builds, what failed builds left, and zig's cache.

    Returns:
        How many builds were removed, and how many bytes all removed files took.
    """
    chosen = [
        build.folder
        for build in builds()
        if everything or (build.manifest.device == device if device else not build.current)
    ]
    rest = [folder() / ".work", folder() / ".zig", *folder().glob("source-*")] if everything else []
    freed = 0
    for place in [*chosen, *rest]:
        freed += sum(path.lstat().st_size for path in place.rglob("*") if path.is_file())
        shutil.rmtree(place, ignore_errors=True)
    return len(chosen), freed


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock on a build: one process makes it, the others wait and then find it."""
    with files.locked(folders.ensure(folder() / ".locks") / name):
        yield
