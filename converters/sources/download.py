"""`download` brings one large file over HTTP, and goes on where a connection broke.

huggingface_hub goes on after a break within one run, and since version 2 begins anew in the next
one. Gigabytes over a thin line need better: the unfinished file stays, and counts.
"""

from __future__ import annotations

import contextlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.write.pipeline import Progress
from plm_edge.converters.write.provenance import file_hash
from plm_edge.converters.write.writer import mebibytes

MORE_ROOM = "free some space, or set HF_HOME to a folder on another disk"
ATTEMPTS = 5  # without a byte of progress
PAUSE = 1.0  # seconds before the second attempt, twice as many before each further one
_CHUNK = 1 << 18
_TIMEOUT = 30  # seconds without a byte
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
    partial = target.with_name(f"{target.name}.plm-edge.partial")
    fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not files.try_lock(fd):
            raise PlmEdgeError(
                f"{name} is being downloaded by another run",
                "its unfinished file is locked",
                "wait for the other run",
            )
        if os.fstat(fd).st_size > size:
            os.ftruncate(fd, 0)
        progress.advance(os.fstat(fd).st_size)
        _fill(address, fd, size, name, progress)
        os.fsync(fd)
        if (found := file_hash(partial)) != sha256:
            partial.unlink()
            raise not_the_file(name, found, sha256)
        partial.replace(target)
    finally:
        os.close(fd)


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


def _fill(address: Address, fd: int, size: int, name: str, progress: Progress) -> None:
    failed = 0
    while (done := os.fstat(fd).st_size) < size:
        try:
            _more(address, fd, done, progress)
            problem = "the server ended the answer early"
        except urllib.error.HTTPError as error:
            problem = f"the server answered {error.code} {error.reason}"
        except (OSError, HTTPException) as error:
            if files.is_full(error):
                raise disk_full(name, f"it takes {mebibytes(size)}") from error
            problem = str(error) or type(error).__name__
        failed = 0 if os.fstat(fd).st_size > done else failed + 1
        if failed == ATTEMPTS:
            raise PlmEdgeError(
                f"cannot get {name}",
                f"the connection failed {ATTEMPTS} times at byte {done} of {size}: {problem}",
                "run the command again: it goes on where it stopped",
            )
        if failed:
            pause(failed)


def _more(address: Address, fd: int, done: int, progress: Progress) -> None:
    """One answer of the server, as far as it comes."""
    url, headers = address()
    asked = {**headers, "Range": f"bytes={done}-", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=asked)
    with contextlib.closing(urllib.request.urlopen(request, timeout=_TIMEOUT)) as answer:
        at = _first(answer)
        if at not in (0, done):
            raise HTTPException(f"asked for byte {done}, the server gives {at}")
        if at < done:  # it knows no ranges
            progress.advance(at - done)
            os.ftruncate(fd, at)
        # Small pieces, so that a break loses none of what came before it.
        while data := answer.read1(_CHUNK):
            files.write_at(fd, data, at)
            at += len(data)
            progress.advance(len(data))


def _first(answer: HTTPResponse) -> int:
    """The place in the file of the answer's first byte."""
    if answer.status != 206:
        return 0
    value = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(value) if value.isdecimal() else -1


def disk_full(name: str, why: str) -> PlmEdgeError:
    """Returns the error of a download that the disk has no room for (code RESOURCES)."""
    return PlmEdgeError(
        f"the disk is full while {name} was downloaded", why, MORE_ROOM, ExitCode.RESOURCES
    )
