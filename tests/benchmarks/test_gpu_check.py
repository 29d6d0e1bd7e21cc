"""What the GPU's check makes of other programs' output. No GPU is here: scripts stand for them; and
all of it in small, on a device that computes by the CPU (tests/parity/fake-gpu.cpp)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import beforehand, gpu_check, gpu_logits, gpu_report, gpu_steps, report
from benchmarks.gpu_steps import SMALL, Bench, Clock
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import stock
from plm_edge.bench.worker.process import program
from plm_edge.building import build, gpu
from plm_edge.building.cache import KeptBuild
from plm_edge.building.target import Target
from plm_edge.converters.convert import convert
from testkit import manifests
from testkit.checkout import ROOT, TINY_PLM, Upstream
from tests.parity import fake_gpu


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Clock(time.monotonic() + 60), tmp_path, size=SMALL)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlmEdgeError) as caught:
        gpu_check.board()
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path / "nvidia-smi", 'echo "NVIDIA-SMI has failed: no driver"; exit 9')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(PlmEdgeError, match="NVIDIA-SMI has failed"):
        gpu_check.board()


def test_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path / "nvidia-smi", 'echo "NVIDIA A, 580.1, 8192 MiB, 8.9"')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert gpu_check.board()["compute_cap"] == "8.9"


def test_what_is_prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ours and stock for the profile's card, the model with large neurons: all without a GPU."""
    made: dict[str, Any] = {}

    def ours(target: Target, programs: Sequence[str]) -> tuple[KeptBuild, bool]:
        made["ours"] = target.backend, programs
        return KeptBuild(tmp_path, manifests.manifest(device=target.device)), False

    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(build, "build", ours)
    found = {"CMAKE_CUDA_COMPILER": "nvcc", gpu.LIBRARIES: "/opt/cuda/lib"}
    monkeypatch.setattr(gpu, "settings", lambda _: dict(found))
    monkeypatch.setattr(stock, "build_stock", lambda *given: made.update(stock=given))
    monkeypatch.setattr(gpu_logits, "large", lambda folder: made.update(large=folder))
    gpu_check.prepare("rtx4090")
    assert made["ours"] == ("cuda", gpu_check.PROGRAMS)
    folder, settings = made["stock"]
    assert folder == gpu_check.stock_folder("rtx4090")
    assert settings.items() >= {
        ("GGML_CUDA", "ON"), ("GGML_NATIVE", "OFF"), ("CMAKE_CUDA_COMPILER", "nvcc"),
    }  # fmt: skip
    assert "GGML_BACKEND_DL" not in settings
    assert settings["CMAKE_BUILD_RPATH"] == "/opt/cuda/lib"
    assert gpu.LIBRARIES not in settings
    assert made["large"] == gpu_check.kept()


def test_programs_may_be_made_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a GPU is, CUDA's compiler need not be."""
    asked: dict[str, Any] = {}

    def check(bench: Bench, _: Any, stock_programs: Path, about: dict[str, str]) -> dict[str, Any]:
        asked.update(programs=bench.programs, stock=stock_programs, about=about)
        return {}

    monkeypatch.setattr(gpu_check, "prepare", lambda _: pytest.fail("it builds"))
    monkeypatch.setattr(gpu_check, "board", lambda: {"name": "NVIDIA A"})
    monkeypatch.setattr(gpu_check, "check", check)
    monkeypatch.setattr(beforehand, "model", lambda _: None)
    monkeypatch.setattr(report, "keep", lambda out, result: None)
    models = ["--edge", "a.gguf", "--stock", "b.gguf"]
    ours, stock_folder = str(tmp_path / "ours"), str(tmp_path / "stock")
    given = ["--programs", ours, "--stock-programs", stock_folder, *models]
    assert gpu_check.main(given) == 0
    assert asked["programs"] == tmp_path / "ours"
    assert asked["stock"] == tmp_path / "stock"
    assert capsys.readouterr().out.endswith("gpu-nvidia-a.json\n")
    for wrong in (
        ["--stock-programs", ours, "--device", "h200"],
        ["--programs", ours, "--prepare"],
    ):
        with pytest.raises(SystemExit):
            gpu_check.main([*wrong, *models])


def test_operations(bench: Bench) -> None:
    lines = r"  A(a=1): \033[1;32mOK\033[0m\n  A(a=2): \033[1;31mFAIL\033[0m\n"
    end = r"  1/2 tests passed\n  Backend CUDA0: \033[1;32mOK\033[0m\n1/1 backends passed\nOK\n"
    lines += end
    script(bench.programs / "test-backend-ops", f"printf '{lines}'; exit 1")
    found = gpu_steps.operations(bench)["MUL_MAT_SPARSE_T"]
    assert found == {"exit": 1, "cases": 1, "failed": ["A(a=2): FAIL"]}
    assert gpu_steps.good_cases(end.encode().decode("unicode_escape")) == 0


def test_speeds(bench: Bench) -> None:
    """Depth by depth, so that a file that was not reached was not reached for the others either."""
    said = json.dumps([{"n_prompt": 16, "n_gen": 0, "samples_ts": [5.0, 6.0]}])
    log = "x: CUDA0 model buffer size = 2.00 MiB"
    for _ in range(2):  # of two contexts the last counts
        log += "\nllama_context: constructing llama_context\nx: CUDA0 KV buffer size = 3.00 MiB"
    stock = bench.programs / "stock"
    stock.mkdir()
    for folder in (bench.programs, stock):
        script(folder / "llama-bench", f"echo '{said}'; echo '{log}' >&2")
    models = {"edge": Path("a.gguf"), "stock": Path("b.gguf")}
    found = gpu_steps.speeds(bench, models, stock)
    assert [(one["depth"], one["cache"], one["file"]) for one in found] == [
        (depth, cache, name)
        for depth in SMALL.depths
        for cache in ("f16", "q8_0")
        for name in ("edge", "stock", "stock llama.cpp")
    ]
    assert found[0]["results"] == [{"n_prompt": 16, "n_gen": 0, "t_s": [5.0, 6.0]}]
    assert found[0]["memory"]["weights"] == {"CUDA0": 2 << 20}
    assert found[0]["memory"]["kv"] == {"CUDA0": 3 << 20}


def test_tokens_are_compared() -> None:
    assert gpu_steps._common([1, 2, 3], [1, 2, 4]) == 2
    assert gpu_steps._common([1, 2], [1, 2]) == 2


def test_what_the_time_does_not_reach_is_null(tmp_path: Path) -> None:
    over = Bench(Clock(time.monotonic()), tmp_path)
    assert set(gpu_steps.operations(over).values()) == {None}
    assert set(gpu_steps.products(over).values()) == {None}
    assert set(gpu_steps.answers(over, tmp_path / "a.gguf")["tokens"].values()) == {None}
    assert gpu_steps.tool(over, tmp_path / "a.gguf") is None
    speeds = gpu_steps.speeds(over, {"edge": tmp_path / "a.gguf"}, None)
    assert {one["results"] for one in speeds} == {None}


def test_a_step_ends_with_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_steps, "LEAST_S", 0.0)
    script(tmp_path / "test-backend-ops", "exec sleep 60")
    bench = Bench(Clock(time.monotonic() + 0.2), tmp_path)
    assert gpu_steps.operations(bench)["MUL_MAT_SPARSE_T"] is None
    # no operation takes the others' time
    monkeypatch.setattr(gpu_steps, "OPERATIONS_S", 0.2)
    bench = Bench(Clock(time.monotonic() + 60), tmp_path)
    assert set(gpu_steps.operations(bench).values()) == {None}
    assert bench.clock.left() > 50


def recorded(**changed: Any) -> dict[str, Any]:
    """A result as the check writes it, of a GPU that there is not."""

    def speed(name: str, depth: int, decode: float) -> dict[str, Any]:
        results = [
            {"n_prompt": 512, "n_gen": 0, "t_s": [1000.0]},
            {"n_prompt": 0, "n_gen": 128, "t_s": [decode - 1, decode, decode + 9]},
        ]
        return {"file": name, "depth": depth, "cache": "f16", "results": results}

    times = {"seconds": [1e-5, 2e-5, 3e-5], "same": True, "finite": True}
    return {
        "dry": False,
        "gpu": {"name": "NVIDIA A", "driver_version": "1", "memory.total": "8 MiB"},
        "date": "2026-01-01T00:00:00+00:00",
        "machine": {"cpu": "a CPU"},
        "source": {"commit": "c" * 40, "changed": False},
        "bytes": {"edge": 1_000_000, "stock": 2_000_000},
        "operations": {
            "MUL_MAT_SPARSE_T": {"cases": 9, "failed": []},
            "FLASH_ATTN_EXT": {"cases": 9, "failed": ["x"]},
        },
        "products": {
            "q4_K x1": {"found": [{"zeros": z, "sparse": times, "dense": None} for z in (0, 1)]},
            "q6_K x1": None,
        },
        "answers": {
            "edge": {"tokens": {}, "repeats_are_the_same": True, "as_on_the_cpu": 64},
            "stock": {"tokens": {}, "repeats_are_the_same": None, "as_on_the_cpu": None},
        },
        "logits": {
            "cpu": {"likeliest": [1, 2], "largest_neuron": 70000.0},
            "gpu": {"likeliest": [1, 3], "finite": False},
        },
        "tool": {
            "edge": {
                "points": {
                    "tg32": {
                        "memory": {
                            "weights_bytes": {"CUDA0": 3 << 20, "CPU": 9 << 20},
                            "kv_by_buffer": {"CUDA0": 1 << 20},
                            "splits": [2, 2],
                        },
                        "joules_a_token": 0.5,
                    }
                }
            },
            "stock": None,
        },
        "speeds": [
            speed("edge", 0, 130.0), speed("stock", 0, 100.0), speed("stock llama.cpp", 0, 90.0),
            speed("edge", 16384, 120.0), speed("stock", 16384, 100.0),
        ],
    } | changed  # fmt: skip


def test_the_section() -> None:
    text = gpu_report.section(recorded())
    assert "## GPU: NVIDIA A\n" in text
    assert "| tg128 @ 0 | f16 | 130.0 | 100.0 | 90.0 | 1.30 |" in text
    assert "- decode at 0: 1.30 times the best other, wanted 1.20: reached" in text
    assert "- decode at 16384: 1.20 times the best other, wanted 1.30: **missed**" in text
    assert "- pp512 at 0: 1.00 times the best other, wanted 0.95: reached" in text
    assert "| q4_K x1 | 20.0 / not there | 20.0 / not there |" in text
    assert f"| q6_K x1 | {gpu_report.NOT_REACHED} |" in text
    assert "FLASH_ATTN_EXT against the CPU: 9 cases, **1 failed**" in text
    assert "edge: three times and without CUDA graphs the same; the first 64 are the CPU's" in text
    assert "logits are **not finite**; 1 of 2 likeliest tokens are the CPU's" in text
    assert "| edge, tg32 | 3.0 MiB | 1.0 MiB | 0 B | 2 / 2 | 0.500 |" in text
    assert "dry run" in gpu_report.section(recorded(dry=True))


def test_the_page_has_a_section_once_there_is_a_result(tmp_path: Path) -> None:
    assert "<!-- gpu" not in report.page(tmp_path)
    (tmp_path / "gpu-a.json").write_text(json.dumps(recorded()))
    assert "<!-- gpu-a -->\n## GPU: NVIDIA A" in report.page(tmp_path)


def test_a_model_with_large_neurons(tmp_path: Path) -> None:
    """Its tokens are tiny-plm's, and its neurons above what f16 holds."""
    made = gpu_logits.large(tmp_path, "q8_0")
    plain = tmp_path / "plain.gguf"
    convert(TINY_PLM, quant="q8_0", layout="edge", out=plain)
    found = []
    for path in (made, plain):
        command = [sys.executable, "-m", "benchmarks.gpu_logits", str(path), "--gpu", "off"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        found.append(json.loads(done.stdout))
    large, small = found
    assert large["finite"]
    assert small["largest_neuron"] < gpu_logits.F16_MOST < large["largest_neuron"]
    ratio = large["largest_neuron"] / small["largest_neuron"]
    assert ratio == pytest.approx(gpu_logits.FACTOR, rel=0.05)
    assert large["likeliest"] == small["likeliest"]


@pytest.mark.full
def test_all_of_it_in_small(upstream: Upstream, tmp_path: Path) -> None:
    """Each step, on a device that computes by the CPU: nothing is null, and nothing failed."""
    programs = fake_gpu.engine_with_backend(tmp_path / "programs")
    for name in ("llama-bench", "test-backend-ops"):
        (programs / name).symlink_to(upstream.bin / name)
    (programs / program().name).symlink_to(program())
    models = {}
    for layout in ("edge", "stock"):
        models[layout] = tmp_path / f"{layout}.gguf"
        convert(TINY_PLM, quant="q4_k_m", layout=layout, out=models[layout])
    out = tmp_path / "dry.json"
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--dry", str(programs)]
    command += ["--backend", "Fake0", "--out", str(out), "--minutes", "9"]
    command += ["--edge", str(models["edge"]), "--stock", str(models["stock"])]
    env = os.environ | fake_gpu.preloaded() | {
        "PLM_EDGE_CACHE_DIR": str(tmp_path / "cache"),
        "LD_LIBRARY_PATH": str(programs),
    }  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    for said in found["operations"].values():
        assert (said["exit"], said["failed"], said["cases"] > 0) == (0, [], True)
    for said in found["products"].values():
        assert [one["zeros"] for one in said["found"]] == list(gpu_steps.ZEROS)
        assert all(one[way]["same"] for one in said["found"] for way in ("sparse", "dense"))
    for said in found["answers"].values():
        assert (said["repeats_are_the_same"], said["as_on_the_cpu"]) == (True, SMALL.greedy)
    cpu, gpu = found["logits"]["cpu"], found["logits"]["gpu"]
    assert cpu["largest_neuron"] > gpu_logits.F16_MOST
    assert (gpu["finite"], gpu["likeliest"]) == (True, cpu["likeliest"])
    for said in found["tool"].values():
        assert said["offload"]["layers"] == 7
        assert all(point["memory"]["splits"] == [2, 2] for point in said["points"].values())
    for said in found["speeds"]:
        assert len(said["results"]) == 2
        assert said["memory"]["weights"]["Fake"] > 0
        assert said["splits"] == [2, 2]
    assert "dry run: no figure to report" in gpu_report.section(found)
