"""Files: hashed, read at an offset, replaced as a whole, locked between processes."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plm_edge.base import files


def test_sha256(tmp_path: Path) -> None:
    data = os.urandom(2 * files.CHUNK + 5)
    (tmp_path / "a").write_bytes(data)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    stopped = files.sha256(tmp_path / "a", lambda: True)
    assert stopped == hashlib.sha256().hexdigest()
    with pytest.raises(FileNotFoundError):
        files.sha256(tmp_path / "b")


def test_what_stands_in_the_way_of_a_file(tmp_path: Path) -> None:
    assert files.obstacle(tmp_path / "new") == ""
    assert files.obstacle(tmp_path) == "it is a folder"
    assert files.obstacle(tmp_path / "no/new") == f"there is no folder {tmp_path / 'no'}"
    assert files.obstacle(Path("/proc/new")) != ""
    assert [*tmp_path.iterdir()] == []


class Disk:
    """os.preadv and os.pwrite that handle a few bytes at a time, as a slow network disk may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.preadv, self.pwrite = os.preadv, os.pwrite
        monkeypatch.setattr(os, "preadv", self.read)
        monkeypatch.setattr(os, "pwrite", self.write)

    def read(self, fd: int, views: list[memoryview], offset: int) -> int:
        return self.preadv(fd, [views[0][:3]], offset)

    def write(self, fd: int, view: memoryview, offset: int) -> int:
        return self.pwrite(fd, view[:3], offset)


def test_short_reads_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch)
    fd = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    try:
        values = np.arange(20, dtype=np.uint16)
        files.write_at(fd, values, 7)
        assert (tmp_path / "a").read_bytes() == bytes(7) + values.tobytes()
        found = np.zeros(20, np.uint16)
        assert files.read_at(fd, found, 7) == 40
        assert (found == values).all()
        assert files.read_at(fd, bytearray(50), 40) == 7  # the file ends
        files.write_at(fd, b"", 0)
        assert files.read_at(fd, np.zeros(0, np.uint8), 0) == 0
    finally:
        os.close(fd)


def test_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    files.write_text(target, "old ä")

    def fail() -> None:
        with files.replacing(target) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert target.read_text(encoding="utf-8") == "old ä"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    files.write_text(target, "newer")
    assert target.read_text() == "newer"


def test_permissions(tmp_path: Path) -> None:
    files.write_text(tmp_path / "public", "")
    files.write_text(tmp_path / "private", "", files.PRIVATE)
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600 & ~umask


def test_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        return  # Linux has one
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="space") as caught:
        files.write_at(fd, b"x", 0)
    os.close(fd)
    assert files.is_full(caught.value)
    assert not files.is_full(OSError(errno.EACCES, "denied"))
    assert not files.is_full(ValueError())


HOLDER = """
import sys
from pathlib import Path
from plm_edge.base import files
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", [subprocess.Popen.kill, lambda process: process.stdin.close()])
def test_one_process_at_a_time(
    tmp_path: Path, end: Callable[[subprocess.Popen[bytes]], None]
) -> None:
    """The other waits until the first is done, or dead."""
    lock = tmp_path / "a.lock"
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(lock)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    )
    try:
        os.set_blocking(first.stdout.fileno(), False)  # type: ignore[union-attr]
        os.set_blocking(second.stdout.fileno(), False)  # type: ignore[union-attr]
        holder, waiter = held(first, second), None
        waiter = second if holder is first else first
        time.sleep(0.3)
        assert waiter.stdout is not None
        assert waiter.stdout.read() is None
        end(holder)
        assert held(waiter) is waiter
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def held(*processes: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """The first that says that it holds the lock."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.read():
                return process
        time.sleep(0.02)
    raise AssertionError("nobody holds the lock")


def test_a_file_that_is_its_own_lock(tmp_path: Path) -> None:
    path = tmp_path / "half-a-download"
    path.write_bytes(b"kept")
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    try:
        assert files.try_lock(first)
        assert not files.try_lock(second)
    finally:
        os.close(first)
    assert files.try_lock(second)
    os.close(second)
    assert path.read_bytes() == b"kept"
