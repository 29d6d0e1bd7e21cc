"""This module packs engine, model and start script into a folder or a tar file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building.cache import KeptBuild
from plm_edge.building.target import machine
from plm_edge.deploy.pack import contents
from plm_edge.model import gguf_file, loadable

SUMS = "SHA256SUMS"
_PATIENCE = 60  # seconds for a program to say its version
Progress = Callable[[str, int, int], None]  # file, bytes done, of all


@dataclass(frozen=True)
class Pack:
    """What was packed.

    Attributes:
        path: the folder, or the tar file.
        n_bytes: of all its files.
        checksums: SHA-256 by path in the folder.
        page: whether the web page is in it.
        started: whether its server was started here and told its version; None where this machine
            cannot run it.
    """

    path: Path
    n_bytes: int
    checksums: dict[str, str]
    page: bool
    started: bool | None


def pack(engine: KeptBuild, model: Path, out: Path, progress: Progress | None = None) -> Pack:
    """Write a folder, or a tar file if `out` ends in .tar, that runs a model without Python.

    It is made beside `out`, checked, and renamed when it is whole.

    Args:
        engine: the build for the device, with llama-server.
        model: a GGUF.
        out: must not exist, or be an empty folder.

    Raises:
        PlmEdgeError: `out` is taken or cannot be written, there is too little room, or a file is
            wrong.
    """
    check_place(out)
    header = gguf_file.read(model)
    loadable.check(header)
    as_tar = out.suffix == ".tar"
    name = contents.safe(out.stem if as_tar else out.name)
    beside = out.parent / f".{name}.{os.getpid()}.part"
    sources = dict(contents.copies(engine, header))
    _require_room(out, sum(path.stat().st_size for path in sources.values()) * (1 + as_tar))
    try:
        folder = beside / name
        folder.mkdir(parents=True)
        sums = _fill(folder, engine, header, sources, progress)
        started = _start(folder, engine)
        n_bytes = sum((folder / path).stat().st_size for path in sums)
        if as_tar:
            _tar(folder, beside / "tar")
            (beside / "tar").replace(out)
        else:
            if out.exists():
                out.rmdir()
            folder.replace(out)
    except OSError as error:
        full = files.is_full(error)
        raise PlmEdgeError(
            f"{out} cannot be written",
            f"{error.filename or out.parent}: {error.strerror or error}",
            "make room, or choose another place with --out",
            ExitCode.RESOURCES if full else ExitCode.ENVIRONMENT,
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Pack(out, n_bytes, sums, "page/index.html" in sums, started)


def check_place(out: Path) -> None:
    """Say what stands in the way at a place, before an engine is built for it.

    Raises:
        PlmEdgeError: something is there, or its folder cannot be written (code ENVIRONMENT).
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise PlmEdgeError(
            f"{out} is there already",
            "a packed folder is written whole, and replaces nothing",
            "remove it first, or choose another --out",
        )
    folder = next(path for path in out.absolute().parents if path.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise PlmEdgeError(
            f"{out} cannot be written",
            f"{folder} is {'a folder that may only be read' if folder.is_dir() else 'no folder'}",
            "choose another place with --out",
            ExitCode.ENVIRONMENT,
        )


def _require_room(out: Path, n_bytes: int) -> None:
    place = next(path for path in out.absolute().parents if path.is_dir())
    free = shutil.disk_usage(place).free
    if n_bytes > free:
        raise PlmEdgeError(
            f"there is too little room in {place}",
            f"the folder takes {n_bytes / 2**20:,.0f} MiB, and {free / 2**20:,.0f} are free",
            "make room, or choose another place with --out",
            ExitCode.RESOURCES,
        )


def _fill(
    folder: Path,
    engine: KeptBuild,
    header: gguf_file.GGUFFile,
    sources: dict[str, Path],
    progress: Progress | None,
) -> dict[str, str]:
    """Write all files, read them again, and return their checksums."""
    total, done = sum(path.stat().st_size for path in sources.values()), 0
    for name, origin in sources.items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(origin, target)
        target.chmod(0o755 if name.startswith("bin/") or name == "start.sh" else 0o644)
        done += target.stat().st_size
        if progress:
            progress(name, done, total)
    (folder / "about").write_text(contents.about(header), encoding="utf-8")
    (folder / "README.txt").write_text(
        contents.readme(engine, header, folder.name), encoding="utf-8"
    )
    names = [*sources, "about", "README.txt"]
    sums = {name: files.sha256(folder / name) for name in sorted(names)}
    _compare(engine, sums)
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / SUMS).write_text(lines, encoding="utf-8")
    return sums


def _compare(engine: KeptBuild, sums: dict[str, str]) -> None:
    """What was copied of the engine is what was built and disassembled."""
    for item in engine.manifest.files:
        if sums.get(item.path, item.sha256) != item.sha256:
            raise PlmEdgeError(
                f"the engine for {engine.manifest.device} is damaged",
                f"{engine.folder / item.path} is not the file that was built",
                f"build it again: plm-edge engine build --device {engine.manifest.device} --force",
            )


def _start(folder: Path, engine: KeptBuild) -> bool | None:
    """Start the packed server with --version, where this machine has its system and architecture.

    A device of this architecture may still have a better CPU: a program that does not start here
    tells nothing then, so only a clean answer counts.
    """
    if (engine.manifest.arch, engine.manifest.system) != (machine(), os.uname().sysname):
        return None
    try:
        command = [str(folder / "bin/llama-server"), "--version"]
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _tar(folder: Path, target: Path) -> None:
    """One file of the folder: owner and time are nobody's, so that equal folders make equal
    files."""

    def plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
        item.uid = item.gid = 0
        item.uname = item.gname = ""
        item.mtime = 0
        return item

    with tarfile.open(target, "w") as archive:
        archive.add(folder, arcname=folder.name, filter=plain)
