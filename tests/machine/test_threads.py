"""The choice of threads, on simulated machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.machine import threads


def machine(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    cpus: int,
    capacity: list[int] | None = None,
    max_freq: list[int] | None = None,
    siblings: list[str] | None = None,
    files: dict[str, str] | None = None,
) -> Path:
    """A sysfs with `cpus` CPUs, all of which this process may use."""
    wanted = dict(files or {})
    for cpu in range(cpus):
        base = f"devices/system/cpu/cpu{cpu}"
        wanted[f"{base}/topology/core_cpus_list"] = siblings[cpu] if siblings else str(cpu)
        if capacity:
            wanted[f"{base}/cpu_capacity"] = str(capacity[cpu])
        if max_freq:
            wanted[f"{base}/cpufreq/cpuinfo_max_freq"] = str(max_freq[cpu])
    for name, text in wanted.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cpus)), raising=False)
    return root


def test_raspberry_pi_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(tmp_path, monkeypatch, cpus=4, capacity=[1024] * 4)
    assert threads.default_threads(root) == 4


def test_a_phone_with_little_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Snapdragon 8 Gen 3: 2 little, 5 performance, 1 prime
    capacity = [330, 330, 880, 880, 880, 880, 880, 1024]
    root = machine(tmp_path, monkeypatch, cpus=8, capacity=capacity)
    assert threads.default_threads(root) == 6


def test_clocks_tell_where_capacities_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = [1_200_000] * 4 + [2_800_000] * 4
    root = machine(tmp_path, monkeypatch, cpus=8, max_freq=clocks)
    assert threads.default_threads(root) == 4


def test_hyperthreads_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [f"{cpu % 8},{cpu % 8 + 8}" for cpu in range(16)]
    root = machine(tmp_path, monkeypatch, cpus=16, siblings=pairs)
    assert threads.default_threads(root) == 8


def test_a_small_machine_uses_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(tmp_path, monkeypatch, cpus=2, siblings=["0-1", "0-1"])
    assert threads.default_threads(root) == 2


def test_an_x86_hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}" for cpu in range(12)]
    siblings = pairs + [str(cpu) for cpu in range(12, 20)]
    files = {"devices/cpu_core/cpus": "0-11", "devices/cpu_atom/cpus": "12-19"}
    root = machine(tmp_path, monkeypatch, cpus=20, siblings=siblings, files=files)
    assert threads.default_threads(root) == 6


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
         3),
        ({"fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)  # fmt: skip
def test_a_containers_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(threads, "_OWN_GROUP", tmp_path / "none")
    root = machine(tmp_path, monkeypatch, cpus=8, files=files)
    assert threads.default_threads(root) == expected


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        # as systemd-run -p CPUQuota=200% makes it
        ("0::/user.slice/run.scope", {"user.slice/run.scope/cpu.max": "200000 100000"}, 2),
        ("0::/user.slice/run.scope", {"user.slice/cpu.max": "300000 100000"}, 3),
        ("0::/a/b", {"a/cpu.max": "max 100000", "a/b/cpu.max": "max 100000"}, 8),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "500000 100000"}, 4),
        # of a container whose group lies beside what is mounted
        ("0::/../other", {"other/cpu.max": "max 100000", "cpu.max": "100000 100000"}, 1),
        ("1:cpu:/a", {"a/cpu.max": "100000 100000"}, 8),
    ],
)
def test_the_quota_of_a_service(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    files: dict[str, str],
    expected: int,
) -> None:
    files = {f"fs/cgroup/{name}": text for name, text in files.items()}
    root = machine(tmp_path, monkeypatch, cpus=8, files=files)
    (tmp_path / "own").write_text(f"{own}\n")
    monkeypatch.setattr(threads, "_OWN_GROUP", tmp_path / "own")
    assert threads.default_threads(root) == expected


def test_taskset_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(tmp_path, monkeypatch, cpus=8)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5})
    assert threads.default_threads(root) == 2


def test_here(tmp_path: Path) -> None:
    assert 1 <= threads.default_threads() <= 1024
    assert threads.default_threads(tmp_path) >= 1  # a system without sysfs
