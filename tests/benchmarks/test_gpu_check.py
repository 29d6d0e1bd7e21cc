"""What the GPU's check makes of other programs' output. No GPU is here: scripts stand for them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import Clock
from plm_edge.base.errors import ExitCode, PlmEdgeError


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def clock() -> Clock:
    return Clock(time.monotonic() + 60)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlmEdgeError) as caught:
        gpu_check.gpu()
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path / "nvidia-smi", 'echo "NVIDIA-SMI has failed: no driver"; exit 9')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(PlmEdgeError, match="NVIDIA-SMI has failed"):
        gpu_check.gpu()


def test_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path / "nvidia-smi", 'echo "NVIDIA A, 580.1, 8192 MiB, 8.9"')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert gpu_check.gpu()["compute_cap"] == "8.9"


def test_operations(clock: Clock, tmp_path: Path) -> None:
    lines = r"  A(a=1): \033[1;32mOK\033[0m\n  A(a=2): \033[1;31mFAIL\033[0m\n"
    lines += r"  1/2 tests passed\n  Backend CUDA0: \033[1;32mOK\033[0m\n"
    script(tmp_path / "test-backend-ops", f"printf '{lines}'; exit 1")
    found = gpu_check.operations(clock, tmp_path)
    assert found == {"exit": 1, "cases": 1, "failed": ["A(a=2): FAIL"]}


def test_speeds(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter(range(0, 10_000, 7))
    monkeypatch.setattr(gpu_check, "energy_mj", lambda: next(counts))
    script(tmp_path / "llama-bench", """echo '[{"avg_ts": 5.0}]'""")
    found = gpu_check.speeds(clock, tmp_path / "a.gguf", tmp_path)
    assert [(one["depth"], one["cache"]) for one in found] == [
        (depth, cache) for depth in gpu_check.DEPTHS for cache in gpu_check.CACHES
    ]
    assert found[0]["llama_bench"] == [{"avg_ts": 5.0}]
    assert found[0]["energy_mj"] == 7


def test_what_the_time_does_not_reach_is_null(tmp_path: Path) -> None:
    over = Clock(time.monotonic())
    assert gpu_check.operations(over, tmp_path) is None
    assert set(gpu_check.answers(over, tmp_path / "a.gguf", tmp_path).values()) == {None}


def test_a_step_ends_with_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "LEAST_S", 0.0)
    script(tmp_path / "test-backend-ops", "exec sleep 60")
    assert gpu_check.operations(Clock(time.monotonic() + 0.2), tmp_path) is None
