"""Commands on a machine with a GPU: one that computes by the CPU (tests/parity/fake-gpu.cpp), and
a library that stands for NVML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plm_edge.model.need import MIB
from testkit import nvml
from testkit.cli import Cli
from tests.bench.conftest import check
from tests.parity import fake_gpu

MARGIN = 256 * MIB


@pytest.fixture
def on_gpu(cli: Cli, tmp_path: Path) -> Cli:
    """plm-edge with an engine that finds Fake0."""
    nvml.library(tmp_path)
    cli.env |= fake_gpu.preloaded() | {
        "PLM_EDGE_LIB_DIR": str(fake_gpu.engine_with_backend(tmp_path / "engine")),
        "LD_LIBRARY_PATH": str(tmp_path),
    }
    return cli


def test_run_says_what_goes_where(on_gpu: Cli, tiny_gguf: Path) -> None:
    ask = ("run", tiny_gguf, "--prompt", "def add(", "-n", "8", "--temp", "0")
    off = on_gpu(*ask, "--gpu", "off")
    assert "Fake0" not in off.stderr
    whole = on_gpu(*ask)
    assert "all 6 layers and the output on Fake0 (a device for tests): about" in whole.stderr
    three = on_gpu(*ask, "-ngl", "3")
    assert "2 of 6 layers and the output on Fake0" in three.stderr
    on_gpu.env["FAKE_GPU_FREE"] = str(MARGIN + 1)
    none = on_gpu(*ask)
    assert "no layers on Fake0 (a device for tests): of 256 MiB free there" in none.stderr
    assert off.stdout == whole.stdout == three.stdout == none.stdout


def test_run_says_it_in_numbers(on_gpu: Cli, tiny_gguf: Path) -> None:
    ask = ("run", tiny_gguf, "--prompt", "x", "-n", "1")
    found = json.loads(on_gpu(*ask, "--json").stdout)["gpu"]
    assert (found["gpus"], found["layers"], found["n_layers"]) == (["Fake0"], 7, 6)
    assert found["needed"] == found["weights"] + found["kv"] + found["compute_estimate"]
    text = on_gpu(*ask, "--stats").stderr
    assert "for all 6 layers and the output" in text
    assert "to Fake0 (a device for tests)" in text


def test_doctor_names_the_engines_gpu(on_gpu: Cli) -> None:
    report = json.loads(on_gpu("doctor", "--json").stdout)
    found = {one["name"]: one for one in report["checks"]}
    assert found["GPU engine"]["value"] == "Fake0 (a device for tests), 4.0 GiB free"


@pytest.fixture
def measured(on_gpu: Cli, tiny_gguf: Path) -> dict[str, Any]:
    done = on_gpu(
        "bench", tiny_gguf, "--workload", "smoke", "--threads", "1", "--json", "--no-history"
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_bench_shows_the_gpu(measured: dict[str, Any], on_gpu: Cli, tiny_gguf: Path) -> None:
    """Backend, layers, memory there by its parts, splits, energy by NVML's counter, zeros."""
    check(measured)
    there = measured["offload"]
    assert [one["name"] for one in there["gpus"]] == ["Fake0"]
    assert (there["layers"], there["n_layers"]) == (7, 6)
    assert "all 6 layers and the output" in there["why"]
    assert 0.3 < there["zeros"] < 1  # counted on the CPU
    assert measured["settings"]["gpu_layers"] == 7
    points = [one for one in measured["points"] if one["kind"] != "load"]
    for point in points:
        memory = point["memory"]
        assert memory["weights_bytes"]["Fake"] > memory["weights_bytes"]["CPU"]
        assert set(memory["kv_by_buffer"]) == {"Fake"}
        assert memory["compute_by_buffer"]["Fake"] > 0
        assert memory["splits"] == [2, 2]
    (meter,) = [one for one in measured["power"]["meters"] if one["name"] == "nvidia"]
    assert meter["source"].startswith("NVML")
    assert "nvidia" in measured["power"]["counted"]
    energies = [point["power"]["energy"] for point in points if point["power"]["energy"]]
    assert energies
    assert all(one["watts"] > nvml.WATTS / 2 for one in energies)
    text = on_gpu(
        "bench", tiny_gguf, "--workload", "smoke", "--threads", "1", "--no-history", "-ngl", "4"
    ).stdout
    for words in ("Fake0", "4 of 7", "VRAM: weights", "2 / 2 is the least", "counted on the CPU"):
        assert words in text


def test_no_layers_there_is_nothing_there(on_gpu: Cli, tiny_gguf: Path) -> None:
    """Long prompts' products would go to a GPU by themselves, with the weights for them."""
    ask = ("bench", tiny_gguf, "--workload", "smoke", "--threads", "1", "--json", "--no-history")
    on_gpu.env["FAKE_GPU_FREE"] = str(MARGIN + 1)
    found = json.loads(on_gpu(*ask).stdout)
    assert found["offload"]["layers"] == 0
    points = [one for one in found["points"] if one["kind"] != "load"]
    assert points
    for point in points:
        assert set(point["memory"]["compute_by_buffer"]) == {"CPU"}


def test_bench_without_one(cli: Cli, tiny_gguf: Path) -> None:
    what, _, fix = cli.fails("bench", tiny_gguf, "--workload", "smoke", "--gpu", "all", code=4)
    assert "no GPU" in what
    assert "engine build --device host" in fix
