"""What is available, in simulated control groups and here; and the peak of a process."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from plm_edge.machine import memory

MIB = 2**20


def cgroup(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text + "\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for /sys/fs/cgroup."""
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cg")
    return tmp_path / "cg"


def rooms(tmp_path: Path, own: str) -> list[int]:
    """What the groups allow a process whose /proc/self/cgroup reads `own`."""
    (tmp_path / "own").write_text(own)
    return list(memory._cgroups(tmp_path / "own"))


class TestCgroups:
    def test_version_2_with_a_limit_above(self, root: Path, tmp_path: Path) -> None:
        stat = "anon 5\ninactive_file 30\nactive_file 20"
        cgroup(root / "outer", memory__max="1000", memory__current="600", memory__stat=stat)
        cgroup(root / "outer/inner", memory__max="max", memory__current="100", memory__stat=stat)
        assert rooms(tmp_path, "0::/outer/inner\n") == [1000 - 600 + 50]

    def test_version_1(self, root: Path, tmp_path: Path) -> None:
        files = {
            "memory__limit_in_bytes": "5000",
            "memory__usage_in_bytes": "4900",
            "memory__stat": "inactive_file 1\ntotal_inactive_file 10\ntotal_active_file 0",
        }
        cgroup(root / "memory/box", **files)
        unlimited = {**files, "memory__limit_in_bytes": "9223372036854771712"}
        cgroup(root / "memory", **unlimited)
        assert rooms(tmp_path, "5:devices:/\n4:memory:/box\n0::/\n") == [110]

    def test_a_container_sees_its_own_root_only(self, root: Path, tmp_path: Path) -> None:
        cgroup(root, memory__max="1000", memory__current="100", memory__stat="")
        assert rooms(tmp_path, "0::/docker/0123abc\n") == [900]

    def test_over_the_limit_is_none_left(self, root: Path, tmp_path: Path) -> None:
        cgroup(root, memory__max="1000", memory__current="1200", memory__stat="")
        assert rooms(tmp_path, "0::/\n") == [0]

    def test_no_cgroups(self, root: Path, tmp_path: Path) -> None:
        assert list(memory._cgroups(tmp_path / "missing")) == []


@pytest.mark.parametrize(
    ("controllers", "top", "limit", "used", "cache"),
    [
        ("", "", "memory.max", "memory.current", ""),
        ("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ],
)
def test_limits_of_a_cgroup(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    controllers: str,
    top: str,
    limit: str,
    used: str,
    cache: str,
) -> None:
    place = tmp_path / top / "some/where"
    place.mkdir(parents=True)
    (place.parent / limit).write_text("300000000\n")
    (place.parent / used).write_text("299000000\n")
    (place.parent / "memory.stat").write_text(
        f"anon 5\n{cache}inactive_file 1500000\n{cache}active_file 500000\nslab 3\n"
    )
    (place / limit).write_text("max\n")
    real = Path.read_text

    def read_text(self: Path, **options: Any) -> str:
        own = f"7:cpu:/\n5:{controllers}:/some/where\n"
        return own if self == Path("/proc/self/cgroup") else real(self, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available() == (3_000_000, "the container or cgroup")


def test_available_here() -> None:
    assert 0 < memory.available().bytes <= memory.total() == psutil.virtual_memory().total


def limited(limit: int, code: str) -> str:
    """What a process prints that may take no more address space than `limit` bytes."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    return done.stdout


def test_a_limit_of_the_process() -> None:
    """Where numpy cannot even be loaded, this still says why."""
    code = "from plm_edge.machine import memory; room, who = memory.available(); print(room, who)"
    room, who = limited(128 * MIB, code).strip().split(" ", 1)
    assert 0 <= int(room) < 128 * MIB
    assert who == "the limit on address space (ulimit -v)"


def test_peak_rss_is_this_process_alone() -> None:
    """A child of a large process does not inherit its parent's peak."""
    ballast = bytearray(300 * MIB)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert memory.peak_rss() > 300 * MIB
    program = "from plm_edge.machine.memory import peak_rss; b = bytearray(40 << 20); "
    program += "b[::4096] = b'x' * len(b[::4096]); print(peak_rss())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert 40 * MIB < int(done.stdout) < 200 * MIB
    assert len(ballast) == 300 * MIB


def test_another_process() -> None:
    program = "b = bytearray(40 << 20); b[::4096] = b'x' * len(b[::4096]); del b; print(); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        assert 0 < memory.rss_of(other.pid) < 40 * MIB < memory.peak_rss_of(other.pid)
        other.communicate(b"\n")
    assert memory.rss_of(other.pid) == memory.peak_rss_of(other.pid) == 0
