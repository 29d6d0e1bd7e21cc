"""NVML by a library that stands for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from plm_edge.machine.nvml import Board, Nvml, NvmlMissing
from testkit import nvml


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [str(nvml.library(tmp_path_factory.mktemp("nvml")))]


def test_boards_and_their_energy(simulated: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_SIMULATED_GPUS", "2")
    opened = Nvml(simulated)
    assert opened.driver == "simulated 1.0"
    assert opened.boards() == [
        Board(f"Simulated GPU {n}", 8 << 30, 6 << 30) for n in (1, 2)
    ]  # fmt: skip
    assert opened.power() == 2 * nvml.WATTS
    times = [time.monotonic()]
    before = opened.energy()
    times.append(time.monotonic())
    time.sleep(0.05)
    times.append(time.monotonic())
    after = opened.energy()
    times.append(time.monotonic())
    assert before is not None
    assert after is not None
    # Each reading was at some time between the two beside it, to the millisecond of its counter.
    least, most = times[2] - times[1] - 0.001, times[3] - times[0] + 0.001
    assert 2 * nvml.WATTS * least <= after - before <= 2 * nvml.WATTS * most


def test_one_that_counts_no_energy(simulated: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_SIMULATED_OLD", "1")
    opened = Nvml(simulated)
    assert opened.energy() is None
    assert opened.power() == nvml.WATTS


def test_without_a_driver(
    simulated: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(NvmlMissing, match=r"no-such\.so"):
        Nvml([str(tmp_path / "no-such.so")])
    monkeypatch.setenv("NVML_SIMULATED_BROKEN", "1")
    with pytest.raises(NvmlMissing, match="Driver Not Loaded"):
        Nvml(simulated)


def test_without_a_gpu(simulated: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVML_SIMULATED_GPUS", "0")
    opened = Nvml(simulated)
    assert (opened.boards(), opened.energy(), opened.power()) == ([], None, None)
