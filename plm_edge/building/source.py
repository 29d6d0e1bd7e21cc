"""The engine's source is the checkout's, or the wheel's copy laid out in the cache."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from plm_edge.base import folders, place
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import cache
from plm_edge.engine import library

# Files that decide how the tree is built, as paths in the source's folder
RECIPE = ("CMakeLists.txt", "plm_edge/__init__.py", "plm_edge/building/vulkan-compat.h")
NATIVE = "native"  # and all files below this folder
# What vendor/llama.cpp/sync.py imports. It cannot change the build: the tree's hash is checked.
_SYNC = (
    "plm_edge/base/__init__.py", "plm_edge/base/errors.py", "plm_edge/base/files.py",
    "plm_edge/upstream/*.py",
)  # fmt: skip


def vendor() -> Path:
    """The folder with PIN.toml, patches and overlay.

    Raises:
        PlmEdgeError: the installation has no source.
    """
    return root() / "vendor/llama.cpp"


def root() -> Path:
    """The folder with the engine's CMakeLists.txt.

    In an installed wheel the source is copied to the cache, because cmake writes llama.cpp's tree
    beside it.

    Raises:
        PlmEdgeError: the installation has no source.
    """
    checkout = place.checkout()
    if checkout and (checkout / RECIPE[0]).is_file():
        return checkout
    shipped = place.DATA / "source"
    if not (shipped / RECIPE[0]).is_file():
        raise PlmEdgeError(
            "the engine cannot be built here",
            f"this installation has no source of it in {shipped}",
            "install it again: pip install --force-reinstall plm-edge",
            ExitCode.ENVIRONMENT,
        )
    return _laid_out(shipped)


def _laid_out(shipped: Path) -> Path:
    target = cache.folder() / f"source-{library.read_pin().tree[:12]}-{_digest(shipped)}"
    if target.is_dir():
        return target
    beside = Path(tempfile.mkdtemp(prefix=".source-", dir=folders.ensure(target.parent)))
    try:
        shutil.copytree(shipped, beside, dirs_exist_ok=True)
        for name in from_package():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place.ROOT / name, beside / name)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    try:
        beside.replace(target)
    except OSError:  # another process was faster
        shutil.rmtree(beside, ignore_errors=True)
    return target


def from_package() -> list[str]:
    """The files that source and package share, as paths relative to either."""
    around = place.ROOT
    found = (path for pattern in _SYNC for path in sorted(around.glob(pattern)))
    return [*RECIPE[1:], *(path.relative_to(around).as_posix() for path in found)]


def _digest(shipped: Path) -> str:
    """Tells laid-out sources apart: by all files but the tree's, which has a hash of its own."""
    found = hashlib.sha256(recipe_digest(shipped, place.ROOT).encode())
    ours = [place.ROOT / name for name in from_package()]
    for path in (*ours, shipped / "vendor/llama.cpp/sync.py"):
        found.update(path.read_bytes())
    return found.hexdigest()[:8]


def recipe_digest(*places: Path) -> str:
    """SHA-256, in hex, over the recipe's files, each from the first of `places` that has it."""
    native = next(place / NATIVE for place in places if (place / NATIVE).is_dir())
    paths = [next(place / name for place in places if (place / name).is_file()) for name in RECIPE]
    found = hashlib.sha256()
    for path in [*paths, *sorted(path for path in native.rglob("*") if path.is_file())]:
        found.update(path.read_bytes())
    return found.hexdigest()
