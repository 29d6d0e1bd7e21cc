"""A whole run over tiny-plm: what it measures, and that the figures fit together."""

from __future__ import annotations

import json
import shutil
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.files import sha256
from plm_edge.bench import runner, session
from plm_edge.bench.worker import process
from plm_edge.bench.worker.client import Answers, Setting
from plm_edge.bench.workload import Point
from plm_edge.engine import library
from plm_edge.machine import memory
from plm_edge.machine.memory import Room
from plm_edge.model import gguf_file, sizes
from testkit import page_cache
from tests.bench.conftest import SHORT, Silent, check


def point(result: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [item for item in result["points"] if item["name"] == name]
    return dict(found)


def test_the_result_meets_its_schema(result: dict[str, Any]) -> None:
    check(result)


def test_all_points_are_there(result: dict[str, Any]) -> None:
    names = [item["name"] for item in result["points"]]
    assert names == ["load cold", "load warm", "pp32", "tg4", "tg4 @ d64", "tg4 x2"]


def test_rates_are_tokens_by_seconds(result: dict[str, Any]) -> None:
    for name, tokens in (("pp32", 32), ("tg4", 4), ("tg4 @ d64", 4), ("tg4 x2", 8)):
        found = point(result, name)
        assert found["tokens_a_sample"] == tokens
        rates = sorted(tokens / seconds for seconds in found["samples_s"])
        assert found["tps"]["n"] == len(rates) == 2
        assert found["tps"]["minimum"] == pytest.approx(rates[0])
        assert found["tps"]["maximum"] == pytest.approx(rates[-1])
        assert found["tps"]["median"] == pytest.approx(sum(rates) / 2)


def test_a_decode_is_the_sum_of_its_steps(result: dict[str, Any]) -> None:
    found = point(result, "tg4 @ d64")
    for seconds, steps in zip(found["samples_s"], found["step_samples_s"], strict=True):
        assert len(steps) == 4
        assert seconds == pytest.approx(sum(steps))
    latencies = found["inter_token_s"]
    assert latencies["n"] == 8
    assert latencies["p50"] <= latencies["p95"] <= latencies["p99"]


def test_the_first_token_comes_after_the_prefill(result: dict[str, Any]) -> None:
    found = point(result, "pp32")
    for prefill, ttft in zip(found["samples_s"], found["ttft_samples_s"], strict=True):
        assert ttft > prefill


def test_memory_is_what_the_engine_says(result: dict[str, Any], tiny_gguf: Path) -> None:
    header = gguf_file.read(tiny_gguf)
    shape = sizes.kv_shape(header)
    assert shape is not None
    found = point(result, "tg4 x2")["memory"]
    assert found["kv_bytes_per_token"] == shape.bytes_per_token("f16")
    assert found["kv_cells"] == 2 * 256
    weights = sum(found["weights_bytes"].values())
    assert weights == pytest.approx(header.tensor_bytes, rel=0.02)
    assert found["peak_rss_bytes"] > weights + found["kv_bytes"] + found["compute_bytes"]


def test_each_point_has_a_peak_of_its_own(result: dict[str, Any], tiny_gguf: Path) -> None:
    """A large context measured first leaves no trace in what a small one reports."""
    large = runner.measure(Setting(tiny_gguf, threads=1), SHORT, Point("decode", 4, 4096, 4))
    small = runner.measure(Setting(tiny_gguf, threads=1), SHORT, Point("decode", 4))
    assert large.done
    assert large.done.peak_rss_bytes
    assert small.done
    assert small.done.peak_rss_bytes
    assert small.loaded
    cache = 4 * 4096 * small.loaded.memory["kv_bytes_per_token"]
    assert large.done.peak_rss_bytes > small.done.peak_rss_bytes + 0.8 * cache


def test_rows_that_were_skipped_are_counted(result: dict[str, Any], tiny_gguf: Path) -> None:
    header = gguf_file.read(tiny_gguf)
    layers, rows = header.arch_key("block_count"), header.arch_key("feed_forward_length")
    found = point(result, "tg4")
    assert [item["layer"] for item in found["rows_by_layer"]] == list(range(layers))
    for item in found["rows_by_layer"]:
        assert item["rows"] == 8 * rows  # of each token of both repeats, the warm-up not counted
        assert 0 < item["read"] < item["rows"]
    assert 0.5 < found["zeros"] < 1


def test_a_cold_load_reads_the_file_again(result: dict[str, Any], tiny_gguf: Path) -> None:
    tiny_gguf.read_bytes()
    assert page_cache.resident(tiny_gguf) == 1.0
    cold = point(result, "load cold")
    (dropped,) = process.ask([{"do": "drops", "file": str(tiny_gguf)}])
    if dropped["gone"]:
        assert page_cache.resident(tiny_gguf) == pytest.approx(0, abs=page_cache.LEFT)
        assert cold["skipped"] is None
    else:  # a file system in memory: then the result says so
        assert cold["skipped"]


def test_the_model_is_named_by_its_content(result: dict[str, Any], tiny_gguf: Path) -> None:
    assert result["model"]["sha256"] == sha256(tiny_gguf)
    assert result["model"]["quant"] == "q4_k_m"
    assert result["model"]["layout"] == "edge"
    assert result["settings"]["threads"] == 1


def test_progress_is_told(tiny_gguf: Path) -> None:
    silent = Silent()
    session.run(Setting(tiny_gguf, threads=1), replace(SHORT, depths=(0,), loads=False), silent)
    assert silent.points == 3 + 2
    assert silent.steps[1:4] == ["prefill of 32 tokens", "decode", "decode, 2 sequences"]
    assert silent.seconds > 3
    assert len(silent.rest) == 3
    assert silent.rest[-1] == 0


def test_an_error_of_the_engine_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(PlmEdgeError) as caught:
        runner.measure(Setting(path), SHORT, Point("decode", 4))
    assert caught.value.code == ExitCode.INPUT


def test_a_death_is_told(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "dies.sh"
    script.write_text("#!/bin/sh\necho first >&2\necho last >&2\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(process, "program", lambda: script)
    with pytest.raises(PlmEdgeError) as caught:
        runner.measure(Setting(tiny_gguf), SHORT, Point("decode", 4))
    assert caught.value.code == ExitCode.RESOURCES
    shown = "".join(traceback.format_exception(caught.value))  # as --debug prints it
    assert "first\nlast" in shown


def test_the_log_outlives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "says.sh"
    script.write_text("#!/bin/sh\necho a word >&2\n")
    script.chmod(0o755)
    monkeypatch.setattr(process, "program", lambda: script)
    running = process.Process()
    assert running.close() == 0
    assert running.log == b"a word\n"
    assert running._complaints.closed


def test_without_the_program_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(library.find() / "libllama.so", tmp_path / "libllama.so")
    monkeypatch.setenv(library.LIB_DIR_VARIABLE, str(tmp_path))
    monkeypatch.setattr(process, "PROGRAM", "plm-edge-none")
    with pytest.raises(PlmEdgeError, match="nothing can be measured") as caught:
        process.program()
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_a_request_that_the_program_does_not_know() -> None:
    for request, why in (({"do": "dance"}, "no command"), ({"do": "greedy"}, "tokens")):
        with pytest.raises(PlmEdgeError) as caught:
            process.ask([request])
        assert caught.value.code == ExitCode.USAGE
        assert why in caught.value.why


def test_too_little_memory_names_options_that_bench_has(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is foreseen here or found by the engine."""
    answers = Answers()
    said = {"what": "w", "why": "y", "fix": "use --ctx 4096", "code": int(ExitCode.RESOURCES)}
    answers.out(json.dumps({"event": "error", "now": 1.0, **said}).encode() + b"\n")
    monkeypatch.setattr(memory, "available", lambda: Room(1 << 20, "this machine"))
    with pytest.raises(PlmEdgeError, match="not enough memory") as caught:
        runner.measure(Setting(tiny_gguf), SHORT, Point("decode", 4))
    assert answers.error is not None
    for error in (answers.error, caught.value):
        assert error.code == ExitCode.RESOURCES
        assert "--workload" in error.fix
        assert "--ctx" not in error.fix
