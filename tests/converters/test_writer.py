"""Either the old file or the new one, and nothing beside it."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.write.writer import AtomicFile
from tests.converters.conftest import said


def refused(target: Path, size: int = 16) -> PlmEdgeError:
    with pytest.raises(PlmEdgeError) as error, AtomicFile(target, size):
        pass
    said(error)
    return error.value


def test_written_in_any_order_and_put_in_place(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    target.write_bytes(b"old")
    with AtomicFile(target, 10) as file:
        file.write_at(5, b"world")
        file.write_at(0, memoryview(b"hello"))
        assert target.read_bytes() == b"old"
        file.commit()
    assert target.read_bytes() == b"helloworld"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_without_commit(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "model.gguf"
    target.write_bytes(b"old")

    def stopped() -> None:
        with AtomicFile(target, 10) as file:
            file.write_at(0, b"new")
            raise error

    with pytest.raises(error):
        stopped()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_run_left_is_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    (tmp_path / ".model.gguf.partial").write_bytes(b"rubbish that is longer than the file")
    with AtomicFile(target, 3) as file:
        file.write_at(0, b"new")
        file.commit()
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("function", ["flock", "fstat", "ftruncate", "posix_fallocate"])
def test_ctrl_c_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    module = fcntl if function == "flock" else os
    real = getattr(module, function)

    def interrupted(*arguments: object) -> object:
        monkeypatch.setattr(module, function, real)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, function, interrupted)
    with pytest.raises(KeyboardInterrupt), AtomicFile(tmp_path / "model.gguf", 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    with AtomicFile(target, 3) as file:
        assert "being written by another run" in refused(target).what
        file.write_at(0, b"new")
        file.commit()
    assert target.read_bytes() == b"new"


def test_an_old_file_keeps_its_other_names(tmp_path: Path) -> None:
    """A hard link to the old file is somebody's copy."""
    target, other = tmp_path / "m.gguf", tmp_path / "other.gguf"
    target.write_bytes(b"old")
    other.hardlink_to(target)
    with AtomicFile(target, 3) as file:
        file.write_at(0, b"new")
        file.commit()
    assert (target.read_bytes(), other.read_bytes()) == (b"new", b"old")


def test_the_file_behind_a_link_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "real.gguf", tmp_path / "link.gguf"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with AtomicFile(link, 3) as file:
        file.write_at(0, b"new")
        file.commit()
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_target_is_a_folder(tmp_path: Path) -> None:
    assert refused(tmp_path).why == "it is a folder"


def test_target_is_a_device() -> None:
    assert refused(Path("/dev/null")).why == "it is no ordinary file"


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    assert "there is no folder" in refused(tmp_path / "no" / "model.gguf").why
    assert list(tmp_path.iterdir()) == []


def test_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By a stand-in: the superuser, who runs many a CI, may write everywhere.
    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("plm_edge.converters.write.writer.os.open", denied)
    error = refused(tmp_path / "model.gguf")
    assert "Permission denied" in error.why
    assert error.code == ExitCode.INPUT


def test_disk_space_is_checked_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(2**30, 2**30 - 2**20, 2**20))
    error = refused(tmp_path / "model.gguf", 3 * 2**20)
    assert error.code == ExitCode.RESOURCES
    assert "takes 3.0 MiB" in error.why
    assert "has 1.0 MiB left" in error.why
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_only_shows_when_writing(tmp_path: Path) -> None:
    """A quota, or here the largest file that a process may write, is not in the free space."""
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from plm_edge.converters.write.writer import AtomicFile\n"
        "from plm_edge.base.errors import PlmEdgeError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    with AtomicFile(Path(sys.argv[1]), 8192): print('no error')\n"
        "except PlmEdgeError as error: print(int(error.code), error.why, error.fix)\n"
    )
    target = tmp_path / "model.gguf"
    done = subprocess.run(
        [sys.executable, "-c", program, target], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(f"{int(ExitCode.RESOURCES)} ")
    assert "File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fails_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with AtomicFile(tmp_path / "model.gguf", 16) as file:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(PlmEdgeError, match="No space left") as error:
            file.write_at(0, b"x")
    assert error.value.code == ExitCode.RESOURCES
    assert list(tmp_path.iterdir()) == []


def test_file_system_that_cannot_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with AtomicFile(tmp_path / "model.gguf", 8) as file:
        file.write_at(4, b"data")
        file.commit()
    assert (tmp_path / "model.gguf").read_bytes() == b"\0\0\0\0data"
