"""Cycles by a model of a core: of a loop whose cycles are known, and against a profile's budget."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench.cycles import budget, kernels, recording, simulator, table
from plm_edge.bench.cycles.cores import CORES
from plm_edge.bench.cycles.simulator import Llvm
from plm_edge.converters.plan.plm import Kind
from plm_edge.converters.plan.recipes import find_recipe
from plm_edge.devices.profiles.profile import Profile, find
from testkit import needs

# marks, as bench-plm-cycles sets them (getppid), around a loop of TIMES fused multiply-adds, each
# of which waits for the one before it
TIMES = 100
LOOP = f"""
.globl _start
_start:
    mov x8, #173
    svc #0
    mov x9, #{TIMES}
1:  fmla v0.4s, v1.4s, v2.4s
    subs x9, x9, #1
    b.ne 1b
    mov x8, #173
    svc #0
    mov x0, #0
    mov x8, #93
    svc #0
"""
MOVES = 2  # of those instructions that are between the marks
WAIT = 4  # cycles that a multiply-add of a Cortex-A76 takes, by ARM's optimisation guide


@pytest.fixture(scope="module")
def llvm() -> Llvm:
    return needs.models_of_cores()


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> recording.Recording:
    compiler, _ = needs.program("aarch64-linux-gnu-gcc"), needs.program("qemu-aarch64")
    folder = tmp_path_factory.mktemp("loop")
    (folder / "loop.S").write_text(LOOP)
    command = [compiler, "-nostdlib", "-static", "loop.S", "-o", "loop"]
    subprocess.run(command, cwd=folder, check=True)
    with recording.Recorder(find("rpi5"), folder / "loop") as recorder:
        return recorder.record([])


def test_what_was_executed_is_recorded(loop: recording.Recording, llvm: Llvm) -> None:
    names = [line.split()[0] for line in simulator.assembly(loop.words, llvm) if line]
    assert names == ["mov", *["fmla", "subs", "b.ne"] * TIMES, "mov"]
    assert loop.n_bytes == 0


def test_a_chain_takes_its_latency(loop: recording.Recording, llvm: Llvm) -> None:
    model = simulator.core("Cortex-A76", llvm)
    cycles = simulator.cycles(loop.words, model, llvm) * (3 * TIMES + MOVES)
    assert cycles == pytest.approx(WAIT * TIMES, rel=0.05)


def test_calls_are_jumps_and_the_system_is_left_out(llvm: Llvm) -> None:
    words = np.array([0x94000001, 0xD63F0020, 0xD65F03C0, 0xD4000001, 0xD503201F], np.uint32)
    found = [line.split() for line in simulator.assembly(words, llvm)]
    assert found == [["b", "#4"], ["br", "x1"], ["br", "x30"], [], ["nop"]]


def test_what_llvm_does_not_know_is_an_error(llvm: Llvm) -> None:
    with pytest.raises(PlmEdgeError, match="cannot be read"):
        simulator.assembly(np.array([0xFFFFFFFF], np.uint32), llvm)


def test_long_recordings_are_simulated_in_pieces_of_all_of_it() -> None:
    whole = simulator.PIECES * simulator.PIECE
    short = np.arange(whole, dtype=np.uint32)
    assert [len(piece) for piece in simulator.pieces(short)] == [whole]
    found = simulator.pieces(np.arange(10 * whole, dtype=np.uint32))
    assert [len(piece) for piece in found] == [simulator.PIECE] * simulator.PIECES
    assert (found[0][0], found[-1][-1]) == (0, 10 * whole - 1)


def test_an_old_llvm_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlmEdgeError, match="cannot be estimated") as none:
        simulator.find()
    assert none.value.why == "llvm-mca is not installed"
    for name in ("llvm-mca", "llvm-mc"):
        (tmp_path / name).write_text("#!/bin/sh\necho Debian LLVM version 14.0.6\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(PlmEdgeError) as old:
        simulator.find()
    assert "14" in old.value.why
    assert "apt install" in old.value.fix


def test_a_core_without_a_model_is_refused() -> None:
    with pytest.raises(PlmEdgeError, match="no model of Cortex-A53"):
        simulator.core("Cortex-A53", Llvm(22, "", ""))
    with pytest.raises(PlmEdgeError, match="no model of Cortex-X4 here") as old:
        simulator.core("Cortex-X4", Llvm(19, "", ""))
    assert "llvm-22" in old.value.fix


def changed(name: str, **tables: Any) -> Profile:
    found = copy.deepcopy(find(name))
    found.data.update(tables)
    return found


def test_the_budget_is_the_profiles() -> None:
    pi = budget.of(find("rpi5"))
    assert pi is not None
    assert pi.cycles == pytest.approx(4 * 2.4 / 10.25)
    assert pi.how == "4 x 2.4 GHz / 10.25 GB/s reached"
    ghz = {"unit": "GHz", "source": "x"}
    clusters = [
        {"core": "A", "count": 1, "clock": {"value": 3.0, **ghz}},
        {"core": "B", "count": 4, "clock": {"value": 2.0, **ghz}},
    ]
    sheet = {"bandwidth": {"value": 10, "unit": "GB/s", "source": "x"}}
    three = changed("rpi5", cpu={"clusters": clusters}, memory=sheet, defaults={"threads": 3})
    found = budget.of(three)
    assert found is not None
    assert found.cycles == pytest.approx((3.0 + 2 * 2.0) / 10)
    assert found.how == "1 x 3 GHz + 2 x 2 GHz / 10 GB/s by the sheet"


def test_no_bandwidth_or_no_clock_no_budget() -> None:
    assert budget.of(find("oneplus12")) is None
    slow = changed("rpi5", cpu={"clusters": [{"core": "A", "count": 1}]})
    assert budget.of(slow) is None


def test_operations_a_second_of_all_cores() -> None:
    found = table.operations(find("rpi5"), {"Cortex-A76": {"q4_K": 0.5}})
    assert found == {"q4_K": pytest.approx(2 * 4 * 2.4e9 / 0.5)}
    assert table.operations(find("rpi5"), {"Cortex-A72": {"q4_K": 0.5}}) == {}
    assert table.operations(find("host"), {}) == {}


def test_what_a_size_has_more_is_what_its_loop_takes() -> None:
    small = recording.Recording(np.zeros(10, np.uint32), 100)
    large = recording.Recording(np.zeros(70, np.uint32), 300)
    found = kernels.difference(small, large)
    assert (found.instructions, found.n_bytes, len(found.words)) == (60, 200, 70)
    assert found.less is None
    other = kernels.difference(small, large, alike=False)
    assert other.less is not None
    assert (other.instructions, len(other.less)) == (60, 10)


def test_each_kernel_stands_beside_upstreams() -> None:
    by_name = {kernel.name: kernel for kernel in kernels.KERNELS}
    assert len(by_name) == len(kernels.KERNELS)
    for same in ("q4_K", "plain q5_K", "lower q4_K"):
        assert kernels.upstream_of(by_name[same]) is None
    for ours, dense in (
        ("rows q4_K", "q4_K"),
        ("planes q4_K", "q4_K"),
        ("transposed q5_K", "q5_K"),
        ("codes 2 bits", "q6_K"),
    ):
        assert kernels.upstream_of(by_name[ours]) == by_name[dense]
    theirs = kernels.upstream_of(by_name["attention q8_0"])
    assert theirs is not None
    assert theirs.large == ("attention-upstream", "q8_0", "1024")


def test_a_calibrated_files_products_are_all_estimated() -> None:
    """Each kernel that a token of q4_k_m runs, but for the fallbacks, is among the kernels."""
    names = {kernel.name for kernel in kernels.KERNELS}
    recipe = find_recipe("q4_k_m")[1]
    types = {kind: of.name.replace("Q", "q", 1) for kind, of in recipe.calibrated.items()}
    assert {types[kind] for kind in (Kind.ATTN_Q, Kind.ATTN_KV_A, Kind.ATTN_OUT)} <= names
    assert {f"{how} {types[Kind.ATTN_KV_B]}" for how in ("transposed", "plain")} <= names
    assert {f"{how} {types[Kind.FFN_UP]}" for how in ("planes", "upper", "lower")} <= names
    assert f"rows {types[Kind.FFN_DOWN]}" in names
    assert {"codes 2 bits", f"plain {types[Kind.EMBEDDING]}", "q8_0"} <= names


def test_of_two_loops_the_cycles_are_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 cycles an instruction of the larger recording, 1 of the smaller: by one loop or by two."""
    monkeypatch.setattr(simulator, "cycles", lambda words, *_: 2.0 if len(words) == 70 else 1.0)
    model, none = CORES["Cortex-A76"], Llvm(0, "", "")
    small = recording.Recording(np.zeros(10, np.uint32), 100)
    large = recording.Recording(np.zeros(70, np.uint32), 300)
    assert kernels.cycles(kernels.difference(small, large), model, none) == 2 * 60
    of_two = kernels.difference(small, large, alike=False)
    assert kernels.cycles(of_two, model, none) == 2 * 70 - 10
