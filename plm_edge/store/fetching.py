"""Files of a model come into a folder: disk and memory checked first, resumed, compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.console import size
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.hub.download import Address, Download
from plm_edge.model import gguf_file
from plm_edge.store import fit

MORE_ROOM = "free some space, or choose a folder on another disk with --into"
_BEGINNINGS = (1 << 20, 1 << 23, 1 << 26, gguf_file.MAX_HEADER)  # bytes; PLM's header has some 10 M


@dataclass(frozen=True)
class Part:
    """A file that is to come.

    Attributes:
        name: what it is called in messages.
        address: where it is fetched from.
        target: where it goes.
        size: in bytes.
        sha256: empty where nobody states it.
        version: see Download.
        ours: `pull` placed what lies there now, if anything, and may replace it.
    """

    name: str
    address: Address
    target: Path
    size: int
    sha256: str
    version: str = ""
    ours: bool = False

    def download(self, progress: Progress) -> Download:
        """The download of this part."""
        return Download(
            self.name, self.address, self.target, self.size, self.sha256, progress, self.version,
            MORE_ROOM,
        )  # fmt: skip


def fetch(
    parts: Sequence[Part], progress: Progress, remark: Callable[[str], None], *, force: bool
) -> list[str]:
    """Bring all parts of one model; what is there already is compared and kept.

    Args:
        parts: the first one has the header.
        remark: told in a sentence what is no reason to stop.
        force: fetch it even where disk or memory is too small.

    Returns:
        The SHA-256 of each part.

    Raises:
        PlmEdgeError: it is no GGUF, there is no room for it, a file of another content is where it
            goes, or it cannot be had.
    """
    folder = parts[0].target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [part for part in parts if not _is_there(part)]
        if not force:
            _check_disk(missing, folder)
        return _fetch(parts, missing, progress, remark, force)
    except OSError as error:
        raise PlmEdgeError(
            f"cannot write to {folder}",
            error.strerror or str(error),
            MORE_ROOM,
            ExitCode.ENVIRONMENT,
        ) from error


def _fetch(
    parts: Sequence[Part],
    missing: list[Part],
    progress: Progress,
    remark: Callable[[str], None],
    force: bool,
) -> list[str]:
    progress.begin(sum(part.size for part in missing))
    hashes = {part.target: part.sha256 for part in parts}
    for part in missing:
        with part.download(progress) as download:
            if part is parts[0]:
                _check_header(download, sum(p.size for p in parts), remark, force)
            hashes[part.target] = download.finish()
    return [hashes[part.target] for part in parts]


def _is_there(part: Part) -> bool:
    """Whether the whole file lies where it goes.

    Raises:
        PlmEdgeError: another one does.
    """
    if not part.target.exists():
        return False
    same_size = part.sha256 and part.target.stat().st_size == part.size
    if same_size and files.sha256(part.target) == part.sha256:
        return True
    if part.ours:
        return False
    raise PlmEdgeError(
        f"{part.target} is there already",
        "it is not the file that would be fetched"
        if part.sha256
        else "nothing tells whether it is the file that would be fetched",
        "choose another folder with --into, or remove it first: plm-edge rm, or by hand",
    )


def _check_disk(missing: Sequence[Part], folder: Path) -> None:
    here = sum(_size(part.download(NoProgress()).partial) for part in missing)
    needed = sum(part.size for part in missing) - here
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PlmEdgeError(
            f"not enough disk space for {missing[0].name}",
            f"{size(needed)} are to come, and {folder} has {size(free)} left",
            f"{MORE_ROOM}; --force begins nevertheless",
            ExitCode.RESOURCES,
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_header(
    download: Download, weights: int, remark: Callable[[str], None], force: bool
) -> None:
    """Bring as much as the header takes, and judge the model by it.

    Raises:
        PlmEdgeError: it is no GGUF that can be read, or too large for this machine.
    """
    header = None
    for upto in _BEGINNINGS:
        download.fetch(upto)
        try:
            header = gguf_file.read_beginning(download.partial, download.size)
        except PlmEdgeError as error:
            download.drop()
            raise PlmEdgeError(
                f"{download.name} is not a GGUF that can be used",
                error.why,
                "take another file",
                error.code,
            ) from error
        if header is not None:
            break
    if header is None:
        return
    try:
        said = fit.check(download.name, fit.of(header, weights))
    except PlmEdgeError:
        if not force:
            raise
        said = ""
    if said:
        remark(said)
