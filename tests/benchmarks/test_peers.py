"""Other models beside PLM: their shapes, the files made of them, and a run of small ones."""

from __future__ import annotations

import json
import math
import os
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType, GGUFReader

from benchmarks import peers_models, peers_report, prepare, required_bytes
from benchmarks.peers_shapes import SHAPES, Shape
from benchmarks.peers_turns import LEAST_ROUNDS, Model, Plan, Setting, Trial, Turns, best
from plm_edge.bench.worker import process
from plm_edge.engine import library
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from testkit.checkout import Upstream

# What the hub states of each checkpoint (safetensors, parameters).
PARAMETERS = {
    "Qwen2.5-1.5B": 1_543_714_304,
    "Llama-3.2-1B": 1_235_814_400,
    "Gemma-2-2B": 2_614_341_888,
    "SmolLM2-1.7B": 1_711_376_384,
}
NAMES = [shape.name for shape in SHAPES]
BASE = Setting(flash=True, load_mode="none", repack=True, threads=1)


def small(shape: Shape) -> Shape:
    """The same kind of model: layers for every rule of the mixture, rows of whole blocks."""
    window = 16 if shape.window else 0
    kv_heads = 4 if shape.kv_heads == shape.heads else 2
    return replace(
        shape, layers=8, hidden=256, heads=4, kv_heads=kv_heads, head=64, ffn=512, vocab=900,
        positions=256, window=window,
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each shape's small file, in the mixture."""
    folder = tmp_path_factory.mktemp("peers")
    made = {shape.name: folder / prepare.peer_file(shape) for shape in SHAPES}
    for shape in SHAPES:
        peers_models.write(made[shape.name], small(shape))
    return made


def test_the_shapes_have_the_published_number_of_parameters() -> None:
    assert {shape.name: shape.parameters for shape in SHAPES} == PARAMETERS


def test_the_cache_is_as_large_as_the_heads_say(files: dict[str, Path]) -> None:
    for shape in SHAPES:
        one = Model(shape.name, "stock", library.load().folder, files[shape.name])
        with Turns([one], plan()).open(one, BASE) as engine:
            made = small(shape)
            expected = made.layers * made.kv_heads * 2 * made.head * 2
            assert engine.cache_bytes_per_token() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_the_mixture_is_the_one_of_llama_quantize(
    name: str, files: dict[str, Path], upstream: Upstream, tmp_path: Path
) -> None:
    shape = next(one for one in SHAPES if one.name == name)
    peers_models.write(tmp_path / "f16.gguf", small(shape), matrices=GGMLQuantizationType.F16)
    done = subprocess.run(
        [upstream.bin / "llama-quantize", "f16.gguf", "out.gguf", "q4_k_m", "2"],
        cwd=tmp_path,
        env=os.environ | {"LD_LIBRARY_PATH": str(upstream.bin)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = {one.name: one.type for one in gguf_file.read(tmp_path / "out.gguf").tensors}
    ours = {one.name: one.type for one in gguf_file.read(files[name]).tensors}
    assert ours == theirs
    assert {ours["blk.0.ffn_down.weight"], ours["blk.1.ffn_down.weight"]} == {"q4_K", "q6_K"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_that_it_is_synthetic_and_generates(name: str, files: dict[str, Path]) -> None:
    file = files[name]
    header = gguf_file.read(file)
    assert describe(header).synthetic
    assert "synthetic" in describe(header).name
    assert "synthetic" in file.name
    answer = process.ask(
        [{"do": "greedy", "model": str(file), "tokens": [5, 6, 7], "count": 4, "threads": 1}]
    )
    assert len(answer[-1]["tokens"]) >= 1


def test_the_same_seed_gives_the_same_file(files: dict[str, Path], tmp_path: Path) -> None:
    shape = small(SHAPES[0])
    peers_models.write(tmp_path / "again.gguf", shape)
    assert (tmp_path / "again.gguf").read_bytes() == files[shape.name].read_bytes()
    peers_models.write(tmp_path / "other.gguf", shape, seed=1)
    assert (tmp_path / "other.gguf").read_bytes() != files[shape.name].read_bytes()


def test_a_vocabulary_has_the_models_size_and_no_token_twice(files: dict[str, Path]) -> None:
    for file in files.values():
        tokens = gguf_file.read(file).keys["tokenizer.ggml.tokens"].values()
        assert len(set(tokens)) == len(tokens) == 900


def test_llama_3s_factors_leave_short_waves_and_stretch_long_ones(files: dict[str, Path]) -> None:
    shape = SHAPES[1]
    assert shape.rope
    factors = shape.rope.factors(shape.theta, shape.head)
    assert (len(factors), factors[0], factors[-1]) == (32, 1.0, 32.0)
    assert factors == sorted(factors)
    assert any(1 < one < 32 for one in factors)
    stored = {one.name: one for one in GGUFReader(files[shape.name]).tensors}["rope_freqs.weight"]
    assert stored.data.tolist() == pytest.approx(shape.rope.factors(shape.theta, 64))


def test_a_token_reads_every_tensor_once(files: dict[str, Path]) -> None:
    for file in files.values():
        read = required_bytes.weights(file, 0.0)
        assert sum(read.values()) == sum(one.n_bytes for one in gguf_file.read(file).tensors)
        half = required_bytes.weights(file, 0.5)
        assert half["ffn_down"] == pytest.approx(read["ffn_down"] / 2, abs=1)


def trial(prefill: float, decode: float, memory: int = 0, **changed: Any) -> Trial:
    samples = ([prefill], [decode]) if prefill else ([], [])
    return Trial(replace(BASE, **changed), 128, *samples, memory << 20)


def test_the_fastest_setting_is_best_and_of_equals_the_smallest() -> None:
    trials = [trial(100, 10, 900), trial(120, 10.1, 500, repack=False), trial(0, 0, flash=False)]
    assert best(trials, "prefill") == replace(BASE, repack=False)
    assert best(trials, "decode") == replace(BASE, repack=False)  # as fast, and smaller
    assert best([trial(100, 10, 900), trial(99, 5, 500, repack=False)], "decode") == BASE
    assert best([trial(100, 10, 501), trial(100, 10, 500, repack=False)], "decode") == BASE


def plan(**changed: Any) -> Plan:
    found = Plan(rounds=3, middle=40, end=192, decode_tokens=4, threads=(1,))
    return replace(found, **changed)


def test_a_deadline_leaves_out_rounds_but_for_some() -> None:
    turns = Turns([], plan(rounds=7))
    turns.turns("late", -math.inf, lambda round_: [])
    turns.turns("in time", math.inf, lambda round_: [])
    assert turns.rounds == {"late": LEAST_ROUNDS, "in time": 7}


@pytest.fixture(scope="module")
def data(files: dict[str, Path], tiny_gguf: Path) -> dict[str, Any]:
    """A run of tiny-plm and two small files, through JSON: figures that mean nothing."""
    folder = library.load().folder
    models = [Model("PLM-1.8B", "ours", folder, tiny_gguf)]
    # prompts of PREFILL tokens need the room
    models += [Model(name, "stock", folder, files[name]) for name in (NAMES[0], NAMES[2])]
    turns = Turns(models, plan(end=640, middle=560))
    turns.find_settings()
    turns.measure(math.inf)
    found = turns.result()
    for model in models:
        found["models"][model.name]["parameters"] = 1_000_000
    return json.loads(json.dumps(found)) | {  # type: ignore[no-any-return]
        "quick": False, "date": "2026-01-02T03:04:05", "pin": "a pin", "compiler": "a compiler",
        "command": "a command", "source": {"commit": "abcdef0123456789", "changed": False},
        "machine": {"cpu": "a CPU", "virtual": True, "cpus": 2, "kernel": "6", "governor": "g",
                    "transparent_huge_pages": "always", "memory_bytes": 1 << 34},
        "load_average": {"before": [0], "after": [1]}, "steal_share": 0.01, "seconds": 60.0,
    }  # fmt: skip


def test_every_model_is_tried_and_takes_its_turns(data: dict[str, Any]) -> None:
    taken = [(one["setting"], one["depth"], one["round"], one["config"]) for one in data["samples"]]
    names = list(data["models"])
    assert taken == [
        (setting, depth, round_, name)
        for setting, depth in (("prefill", 0), ("decode", 636), ("decode", 560), ("decode", 0))
        for round_ in range(3)
        for name in names
    ]
    for name, model in data["models"].items():
        settings = [one["setting"] for one in model["trials"]]
        assert settings[0] == asdict(BASE)
        assert {one["load_mode"] for one in settings} == {"none", "mmap"}
        assert {one["repack"] for one in settings} == {True, False}
        assert {one["flash"] for one in settings[-2:]} == {True, False}
        assert not any(one["ended"] for one in model["trials"])
        assert model["VmHWM"] > 1 << 20
        assert (model["zeros"] > 0) == (name == "PLM-1.8B")


def test_a_setting_that_does_not_run_is_told_and_not_taken(
    files: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))
    one = Model("broken", "stock", library.load().folder, broken)
    found = Turns([one], plan()).attempt(one, BASE, 8, 8)
    assert found.ended
    assert found.speed("decode") == 0
    assert best([found, trial(1, 1, flash=False)], "decode") == replace(BASE, flash=False)


def test_the_section_says_what_was_measured(data: dict[str, Any]) -> None:
    text = peers_report.section(data)
    assert "**Synthetic weights**" in text
    assert "arXiv 2503.12167" in text
    assert f"| | PLM-1.8B, ours | {NAMES[0]}, stock | {NAMES[2]}, stock |" in text
    for words in ("decode, empty context", "decode at 560 tokens", "decode at 640 tokens"):
        assert text.count(f"| {words}") == 2  # speeds, then ratios
    assert "prefill 512" in text
    for model in data["models"].values():
        for measure in ("prefill", "decode"):
            assert Setting(**model["settings"][measure]).show() in text
    assert "nan" not in text


def test_bytes_a_token_are_weights_and_the_cache_so_far(data: dict[str, Any]) -> None:
    model = data["models"][NAMES[0]]
    model["weights_bytes_per_token"] = {"head": 2_000_000.0, "norms": 1_000_000.0}
    model["cache_bytes_per_token"] = 1000.0
    assert peers_report._read(model, 0) == 3_000_000
    assert peers_report._read(model, 4096) == 3_000_000 + 4_096_000
