"""Files are hashed, read at an offset, replaced as a whole and locked here.

Functions raise OSError; whoever calls them knows what to say to a person. Big files that are
written by several threads are `converters.write.writer.AtomicFile`'s, which builds on this module.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 20  # bytes read at once
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a file system answers that cannot do what it is asked: lock, reserve space.
UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
PRIVATE = 0o600  # for what others on the machine need not read
PUBLIC = 0o666  # less the umask


def is_full(error: BaseException) -> bool:
    """Says whether the disk, the quota or the largest size of a file is what stopped a write."""
    return isinstance(error, OSError) and error.errno in _FULL


def sha256(path: Path, stop: Callable[[], bool] | None = None) -> str:
    """Returns the SHA-256 of a file, in hexadecimal.

    Args:
        stop: asked after each MiB; once it says True, the hash is of what was read so far.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while (count := file.readinto(buffer)) and not (stop and stop()):
            digest.update(buffer[:count])
    return digest.hexdigest()


def read_at(fd: int, into: Any, offset: int) -> int:
    """Fill a buffer with what an open file has from a byte on. Safe in several threads at once.

    By pread and not mmap: pages read do not count as our memory, and a read error is an exception
    where a mapping would kill the process.

    Args:
        into: a writable, contiguous buffer (bytearray, numpy array).

    Returns:
        How many bytes were read: fewer than the buffer holds only where the file ends.

    Raises:
        OSError: the disk failed.
    """
    view = memoryview(into)
    if not view.nbytes:  # an empty view cannot be cast
        return 0
    view, done = view.cast("B"), 0
    while done < len(view):
        count = os.preadv(fd, [view[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def write_at(fd: int, data: Any, offset: int) -> None:
    """Write a whole buffer into an open file from a byte on. Safe in several threads at once.

    Raises:
        OSError: the disk is full or failed.
    """
    view = memoryview(data)
    view = view.cast("B") if view.nbytes else view
    while view.nbytes:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def obstacle(target: Path) -> str:
    """Says why no file can be written at `target`, before the work that fills it; else empty."""
    if target.is_dir():
        return "it is a folder"
    if not target.parent.is_dir():
        return f"there is no folder {target.parent}"
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            return ""
    except OSError as error:
        return str(error.strerror or error)


@contextmanager
def replacing(target: Path, mode: int = PUBLIC, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file beside `target`, which takes its place when the block ends without error.

    Whatever happens, `target` is the old file or the whole new one; nothing else is left over.

    Args:
        mode: the new file's permissions, less the umask.
        durable: wait until the disk has it, so that not even a loss of power harms it.

    Raises:
        OSError: it cannot be written.
    """
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(beside, flags, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def write_text(target: Path, text: str, mode: int = PUBLIC) -> None:
    """Replace `target` by a file with this text, in UTF-8; see `replacing`."""
    with replacing(target, mode) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time into this block; the others wait.

    A process that dies lets go of the lock.

    Args:
        path: the lock: a file of its own, which is made here and stays.

    Raises:
        OSError: the file cannot be made.
    """
    from filelock import FileLock  # late: it takes longer to import than all of base

    with FileLock(path):
        yield


def try_lock(fd: int) -> bool:
    """Lock an open file that is itself what is worked on, until it is closed.

    It can hold half a download: its content and its position stay as they are.

    Returns:
        False when another process has it. True also on a file system without locks: two runs at
        once are rare enough there.

    Raises:
        OSError: the lock cannot be asked for.
    """
    from filelock import lock_descriptor  # late, as in `locked`

    try:
        return lock_descriptor(fd, blocking=False)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, *UNSUPPORTED):
            raise
        return True
