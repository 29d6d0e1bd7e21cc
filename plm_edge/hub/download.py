"""`download` brings one large file over HTTP, and goes on where a connection broke.

huggingface_hub goes on after a break within one run, and since version 2 begins anew in the next
one. Gigabytes over a thin line need better: the unfinished file stays, and counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.console import size as in_units
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import Progress

MORE_ROOM = "free some space, or set HF_HOME to a folder on another disk"
ATTEMPTS = 5  # without a byte of progress
PAUSE = 1.0  # seconds before the second attempt, twice as many before each further one
_CHUNK = 1 << 18
TIMEOUT = 30  # seconds without a byte
# Where a file comes from, asked anew for each attempt: addresses with a signature grow old.
Address = Callable[[], tuple[str, Mapping[str, str]]]


def download(
    name: str, address: Address, target: Path, size: int, sha256: str, progress: Progress
) -> None:
    """Bring the file `name` of `size` bytes to `target`, or the rest of it, and compare its hash.

    Raises:
        PlmEdgeError: the connection breaks without end, the disk is full, another run is at it, or
            what came is not the file.
    """
    with Download(name, address, target, size, sha256, progress) as begun:
        begun.finish()


class Download:
    """A download that can be looked at before it is whole. Use it as a context manager.

    Args:
        target: where the whole file goes. What has come of it lies beside it in `partial`.
        size: of the whole file, in bytes.
        sha256: of the whole file in hexadecimal; empty where nobody states it.
        version: what tells this content from another one at the same address, where there is no
            hash: an unfinished file of another version is not gone on with.
        more_room: what a person can do whose disk is full.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        target: Path,
        size: int,
        sha256: str,
        progress: Progress,
        version: str = "",
        more_room: str = MORE_ROOM,
    ) -> None:
        self.name, self.target, self.size = name, target, size
        key = f".{hashlib.sha256(version.encode()).hexdigest()[:8]}" if version else ""
        self.partial = target.with_name(f"{target.name}{key}.plm-edge.partial")
        self._address, self._sha256, self._progress = address, sha256, progress
        self._more_room = more_room
        self._fd = -1

    @property
    def done(self) -> int:
        """Bytes that are here."""
        return os.fstat(self._fd).st_size

    def __enter__(self) -> Download:
        self._open()
        try:
            if self.done > self.size:
                os.ftruncate(self._fd, 0)
            self._progress.advance(self.done)
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def _open(self) -> None:
        """Open and lock the unfinished file.

        Raises:
            PlmEdgeError: another run is at it.
        """
        while True:
            self._fd = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if not files.try_lock(self._fd):
                os.close(self._fd)
                raise PlmEdgeError(
                    f"{self.name} is being downloaded by another run",
                    "its unfinished file is locked",
                    "wait for the other run",
                )
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._fd), self.partial.stat()):
                    return
            os.close(self._fd)  # the other run finished it meanwhile, and gave it its name

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def fetch(self, upto: int | None = None) -> None:
        """Bring the first `upto` bytes, or all of them, as far as they are not here yet.

        Raises:
            PlmEdgeError: as of `download`.
        """
        wanted = self.size if upto is None else min(upto, self.size)
        failed = 0
        while (done := self.done) < wanted:
            try:
                _more(self._address, self._fd, done, wanted, self._progress)
                problem = "the server ended the answer early"
            except urllib.error.HTTPError as error:
                problem = f"the server answered {error.code} {error.reason}"
            except (OSError, HTTPException) as error:
                if files.is_full(error):
                    why = f"it takes {in_units(self.size)}"
                    raise disk_full(self.name, why, self._more_room) from error
                problem = str(error) or type(error).__name__
            failed = 0 if self.done > done else failed + 1
            if failed == ATTEMPTS:
                raise PlmEdgeError(
                    f"cannot get {self.name}",
                    f"the connection failed {ATTEMPTS} times at byte {done} of {self.size}: "
                    f"{problem}",
                    "run the command again: it goes on where it stopped",
                )
            if failed:
                pause(failed)

    def finish(self) -> str:
        """Bring the rest, compare the hash, and give the file its name.

        Returns:
            The file's SHA-256.

        Raises:
            PlmEdgeError: as of `download`.
        """
        self.fetch()
        os.fsync(self._fd)
        found = files.sha256(self.partial)
        if self._sha256 and found != self._sha256:
            self.partial.unlink()
            raise not_the_file(self.name, found, self._sha256)
        self.partial.replace(self.target)
        return found

    def drop(self) -> None:
        """Remove what has come, which is of no use."""
        self.partial.unlink(missing_ok=True)


def not_the_file(name: str, found: str, expected: str) -> PlmEdgeError:
    """Returns the error of a download whose SHA-256 is not the hub's."""
    return PlmEdgeError(
        f"{name} is not the file that the hub has",
        f"its hash is {found}, and the hub says {expected}",
        "it was removed again: run the command once more to download it anew",
    )


def pause(attempt: int) -> None:
    """Wait before the next attempt, twice as long each time."""
    time.sleep(PAUSE * 2 ** (attempt - 1))


def _more(address: Address, fd: int, done: int, wanted: int, progress: Progress) -> None:
    """One answer of the server, as far as it comes and is wanted."""
    url, headers = address()
    asked = {**headers, "Range": f"bytes={done}-{wanted - 1}", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=asked)
    with contextlib.closing(urllib.request.urlopen(request, timeout=TIMEOUT)) as answer:
        at = _first(answer)
        if at not in (0, done):
            raise HTTPException(f"asked for byte {done}, the server gives {at}")
        if at < done:  # it knows no ranges
            progress.advance(at - done)
            os.ftruncate(fd, at)
        # Small pieces, so that a break loses none of what came before it.
        while at < wanted and (data := answer.read1(min(_CHUNK, wanted - at))):
            files.write_at(fd, data, at)
            at += len(data)
            progress.advance(len(data))


def _first(answer: HTTPResponse) -> int:
    """The place in the file of the answer's first byte."""
    if answer.status != 206:
        return 0
    value = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(value) if value.isdecimal() else -1


def disk_full(name: str, why: str, more_room: str = MORE_ROOM) -> PlmEdgeError:
    """Returns the error of a download that the disk has no room for (code RESOURCES)."""
    return PlmEdgeError(
        f"the disk is full while {name} was downloaded", why, more_room, ExitCode.RESOURCES
    )
