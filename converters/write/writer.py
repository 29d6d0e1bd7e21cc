"""A file is written beside its target and takes its place when it is whole.

Whatever happens, the target is either the old file or the new one. The unfinished file has one name
per target and is locked while it is written: a run that was killed leaves one, and the next run to
the same target takes it over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.tensors import Bytes


class AtomicFile:
    """Use as a context manager; without `commit` nothing is left of the file.

    Raises (on entering):
        PlmEdgeError: `target` cannot be written, another run is writing it, or the disk has less
            than `size` bytes left.
    """

    def __init__(self, target: Path, size: int) -> None:
        # A link keeps pointing where it points: the file behind it is replaced.
        self.target = target.resolve()
        self.size = size
        self.partial = self.target.with_name(f".{self.target.name}.partial")
        self._fd = -1  # of the unfinished file, once its lock is ours
        self._done = False

    def __enter__(self) -> AtomicFile:
        _check_target(self.target)
        try:
            self._open()
            self._reserve()
        except OSError as error:
            self._discard()
            raise self._failed(error) from error
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._done:
            self._discard()

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write `data` at byte `offset`. Safe to call from several threads at once.

        Raises:
            PlmEdgeError: the disk is full or failed.
        """
        try:
            files.write_at(self._fd, data, offset)
        except OSError as error:
            raise self._failed(error) from error

    def read_at(self, offset: int, into: Bytes) -> None:
        """Fill `into` with what the file has from byte `offset` on.

        Raises:
            PlmEdgeError: the disk failed, or the file ends there.
        """
        try:
            if files.read_at(self._fd, into, offset) < into.nbytes:
                raise OSError(errno.EIO, "the file has become shorter")
        except OSError as error:
            raise self._failed(error) from error

    def commit(self) -> None:
        """Put the file in its target's place, once the disk has it.

        Raises:
            PlmEdgeError: the disk is full or failed.
        """
        try:
            os.fsync(self._fd)
            self.partial.replace(self.target)
            self._done = True
            os.close(self._fd)
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._failed(error) from error

    def _open(self, create: int = os.O_CREAT) -> None:
        """
        Raises:
            FileNotFoundError: the file is not there, and `create` is 0.
            PlmEdgeError: another run has it.
        """
        while self._fd < 0:
            fd = os.open(self.partial, os.O_RDWR | create | os.O_CLOEXEC, 0o666)
            try:
                if not files.try_lock(fd):
                    raise PlmEdgeError(
                        f"{self.target.name} is being written by another run",
                        f"{self.partial} is locked",
                        "wait for the other run, or give another --out",
                    )
                # Another run may have finished, and moved or removed the file, between the two.
                if _is_at(fd, self.partial):
                    self._fd, fd = fd, -1
            finally:
                if fd >= 0:
                    os.close(fd)

    def _reserve(self) -> None:
        os.ftruncate(self._fd, 0)  # what a killed run left counts as free
        free = shutil.disk_usage(self.target.parent).free
        if free < self.size:
            raise PlmEdgeError(
                f"not enough disk space for {self.target.name}",
                f"it takes {mebibytes(self.size)}, and {self.target.parent} has "
                f"{mebibytes(free)} left",
                "free some space, give an --out on another disk, or take a smaller --quant",
                ExitCode.RESOURCES,
            )
        try:
            # Not on macOS. Where it is, a full disk cannot surprise us halfway.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, 0, self.size)
        except OSError as error:
            if error.errno not in files.UNSUPPORTED:
                raise
        os.ftruncate(self._fd, self.size)

    def _discard(self) -> None:
        """Remove the unfinished file, unless it is another run's."""
        with contextlib.suppress(OSError, PlmEdgeError):
            # Ctrl-C may have come right after the file was made.
            self._open(create=0)
            if _is_at(self._fd, self.partial):
                self.partial.unlink()
        if self._fd >= 0:
            os.close(self._fd)  # and with it the lock, so only when the name is gone

    def _failed(self, error: OSError) -> PlmEdgeError:
        full = files.is_full(error)
        return PlmEdgeError(
            f"cannot write {self.target}",
            f"{self.partial}: {error.strerror}",
            f"make room for {mebibytes(self.size)}, or give an --out on another disk"
            if full
            else "check the folder's permissions, or give another --out",
            ExitCode.RESOURCES if full else ExitCode.INPUT,
        )


def _is_at(fd: int, path: Path) -> bool:
    """Whether `path` is the file that is open as `fd`."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def mebibytes(size: int) -> str:
    """Words bytes for a person: 1.5 MiB."""
    return f"{size / 2**20:,.1f} MiB"


def _check_target(target: Path) -> None:
    parent = target.parent
    if not parent.is_dir():
        raise PlmEdgeError(
            f"cannot write {target}",
            f"there is no folder {parent}",
            "make the folder, or give another --out",
        )
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
        raise PlmEdgeError(
            f"cannot write {target}",
            f"it is {what}",
            "give --out the name of the file to be written",
        )
