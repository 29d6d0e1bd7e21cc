"""Whole conversions: what the file holds, and that nothing is written when something is wrong."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.convert import convert, default_out
from plm_edge.converters.plan.config import read_config
from plm_edge.converters.plan.plm import Kind, tensor_specs
from plm_edge.converters.plan.recipes import RECIPES
from plm_edge.model.description import LAYOUT_VERSION_KEY
from testkit.checkout import TINY_PLM
from testkit.checkpoints import PlmShape, write_checkpoint
from tests.converters.conftest import SHAPE_256, Edit, edit_weights, said
from tests.converters.gguf_content import assert_same, read

# Largest relative error (root of the mean square) of weights drawn from a normal distribution.
ERROR = {
    **{"f32": 0, "f16": 4e-4, "bf16": 0, "q8_0": 0.006, "q6_k": 0.02},
    **{"q5_k_m": 0.04, "q5_k_s": 0.04, "q5_0": 0.05, "q4_k_m": 0.075, "q4_k_s": 0.075, "q4_0": 0.1},
    **{"iq4_nl": 0.09, "iq4_xs": 0.09, "q3_k_l": 0.16, "q3_k_m": 0.16, "q3_k_s": 0.16, "q2_k": 0.3},
}


@pytest.mark.parametrize("layout", ["stock", "edge"])
@pytest.mark.parametrize("quant", ERROR)
def test_every_weight_arrives(large: Path, tmp_path: Path, quant: str, layout: str) -> None:
    out = tmp_path / "model.gguf"
    assert set(ERROR) == {name for name, recipe in RECIPES.items() if not recipe.needs_imatrix}
    convert(large, quant=quant, layout=layout, out=out)
    source, content = load_file(large / "model.safetensors"), read(out)
    specs = tensor_specs(read_config(large))
    assert set(content.tensors) == {spec.name for spec in specs}
    for spec in specs:
        expected = source[spec.source].float().numpy()
        found = content.tensors[spec.name].values
        if layout == "edge" and spec.kind is Kind.FFN_DOWN:
            expected = expected.T  # one row a neuron
        assert found.shape == expected.shape
        error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
        assert error <= (0 if "norm" in spec.name else ERROR[quant]), spec.name


def test_edge_differs_from_stock_by_ffn_down(large: Path, tmp_path: Path) -> None:
    """In a type whose mixture is the same in both."""
    for layout in ("edge", "stock"):
        convert(large, quant="q8_0", layout=layout, out=tmp_path / layout)
    edge, stock = read(tmp_path / "edge"), read(tmp_path / "stock")
    assert edge.keys[LAYOUT_VERSION_KEY] == (["UINT32"], 1)
    for name in [name for name in stock.tensors if "ffn_down" in name]:
        assert edge.tensors[name].values.shape == stock.tensors[name].values.shape[::-1]
        del edge.tensors[name], stock.tensors[name]
    assert_same(edge, stock, also=frozenset({LAYOUT_VERSION_KEY}))


def test_edge_keeps_a_square_ffn_down(tmp_path: Path) -> None:
    """No shape would tell the two forms apart."""
    shape = replace(SHAPE_256, ffn=SHAPE_256.hidden)
    source = write_checkpoint(tmp_path / "square", shape)
    convert(source, quant="f32", layout="edge", out=tmp_path / "edge")
    convert(source, quant="f32", layout="stock", out=tmp_path / "stock")
    edge, stock = read(tmp_path / "edge"), read(tmp_path / "stock")
    assert_same(edge, stock, also=frozenset({LAYOUT_VERSION_KEY}))


def test_sizes_reach_the_keys(large: Path, tmp_path: Path) -> None:
    convert(large, out=tmp_path / "m.gguf")
    content = read(tmp_path / "m.gguf")
    expected = {
        "general.architecture": "plm",
        "plm.block_count": 9,
        "plm.context_length": 4096,
        "plm.embedding_length": 256,
        "plm.feed_forward_length": 512,
        "plm.attention.head_count": 2,
        "plm.attention.head_count_kv": 2,
        "plm.attention.kv_lora_rank": 256,
        "plm.attention.key_length": 128,
        "plm.attention.value_length": 128,
        "plm.rope.dimension_count": 32,
        "plm.rope.freq_base": 100_000.0,
        "plm.vocab_size": 520,
        "general.file_type": 15,
    }
    assert {key: content.value(key) for key in expected} == expected


def test_shards_threads_and_copies_make_no_difference(tmp_path: Path) -> None:
    folders = {
        "one": write_checkpoint(tmp_path / "1" / "checkpoint"),
        "shards": write_checkpoint(tmp_path / "2" / "checkpoint", shards=4),
        "copy": write_checkpoint(tmp_path / "3" / "checkpoint", lm_head_copy=True),
    }
    first = None
    for name, folder in folders.items():
        made = set()
        for threads in (1, 2, 7):
            out = tmp_path / f"{name}-{threads}.gguf"
            convert(folder, quant="q6_k", out=out, threads=threads)
            made.add(out.read_bytes())
        assert len(made) == 1
        first = first or read(out)
        assert_same(read(out), first)


def test_report_adds_up(large: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"
    report = convert(large, quant="Q4_K", out=out, threads=2)
    assert (report.quant, report.layout, report.threads) == ("q4_k_m", "edge", 2)
    assert report.size == out.stat().st_size
    assert {t.type for t in report.types} == {"q4_k", "q5_k", "q6_k", "f32"}
    assert report.total.tensors == 9 * SHAPE_256.layers + 2
    assert report.total.elements == sum(
        int(np.prod(shape)) for shape in SHAPE_256.tensors().values()
    )
    assert 0.9 * report.size < report.total.size < report.size
    assert 4.5 < report.total.bits_per_weight < 6.6
    assert report.seconds > 0
    assert 10e6 < report.peak_rss < 1e11
    assert report.as_dict()["bits_per_weight"] == report.total.bits_per_weight


class Counter:
    total = 0
    done = 0

    def begin(self, total: int) -> None:
        self.total = total

    def advance(self, count: int) -> None:
        self.done += count


def test_progress_counts_every_byte_of_the_weights(checkpoint: Path, tmp_path: Path) -> None:
    counter = Counter()
    convert(checkpoint, out=tmp_path / "m.gguf", progress=counter)
    sizes = (int(np.prod(shape)) for shape in PlmShape().tensors().values())
    assert counter.done == counter.total == 2 * sum(sizes)


def test_tiny_plm_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = convert(TINY_PLM)
    assert report.out == default_out(TINY_PLM, "q4_k") == Path("tiny-plm-q4_k.gguf")
    assert report.out.is_file()


def test_name_of_a_folder_given_as_a_dot(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = checkpoint.rename(checkpoint.with_name("My-PLM"))
    monkeypatch.chdir(renamed)
    assert default_out(Path(), "q8_0") == Path("My-PLM-q8_0.gguf")


def test_name_of_a_snapshot_in_the_hubs_cache() -> None:
    snapshot = Path("/cache/hub/models--PLM-Team--PLM-1.8B-Instruct/snapshots/0123abcd")
    assert default_out(snapshot, "q4_k") == Path("PLM-1.8B-Instruct-q4_k.gguf")


def test_rows_that_do_not_fit_are_told(checkpoint: Path, large: Path, tmp_path: Path) -> None:
    assert convert(large, out=tmp_path / "1.gguf").warnings == ()
    warnings = convert(checkpoint, out=tmp_path / "2.gguf").warnings
    assert warnings == (
        "13 tensors have rows that q4_k_m cannot divide into its blocks; they take larger types",
    )


DOWN = "model.layers.1.mlp.down_proj.weight"


def set_value(value: float) -> Edit:
    def edit(weights: dict[str, torch.Tensor]) -> None:
        weights[DOWN][3, 5] = value

    return edit


@pytest.mark.parametrize("quant", ["q4_k", "bf16", "f32"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weight_that_is_no_number(
    checkpoint: Path, tmp_path: Path, quant: str, value: float
) -> None:
    edit_weights(checkpoint, set_value(value))
    out = tmp_path / "m.gguf"
    out.write_bytes(b"old")
    with pytest.raises(PlmEdgeError) as error:
        convert(checkpoint, quant=quant, out=out)
    assert DOWN in error.value.what
    assert f"it is {value} in row 3, column 5" in said(error)
    assert out.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))


def test_weight_too_large_for_the_type(tmp_path: Path) -> None:
    for dtype, quant in (("f32", "q8_0"), ("bf16", "f16"), ("bf16", "q4_0")):
        folder = write_checkpoint(tmp_path / f"{dtype}-{quant}", dtype=dtype)
        edit_weights(folder, set_value(1e30))
        with pytest.raises(PlmEdgeError) as error:
            convert(folder, quant=quant, out=tmp_path / "m.gguf")
        assert f"{DOWN} cannot be stored as" in said(error)
        convert(folder, quant="bf16", out=tmp_path / "bf16.gguf")


def broken_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace(r"\\p{N}", r"\\p{N}{1,3}"))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (broken_tokenizer, "pre-tokenizer is not known"),
        (lambda folder: edit_weights(folder, lambda w: w.popitem()), "the checkpoint has no"),
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), "is cut off"),
        (
            lambda folder: (folder / "README.md").write_text("---\na: [\n---\n"),
            "model card cannot be read",
        ),
        (lambda folder: (folder / "generation_config.json").write_text("{"), "not valid JSON"),
        (
            lambda folder: (folder / "generation_config.json").write_text('{"top_k": 2.5}'),
            "top_k is 2.5",
        ),
    ],
)
def test_wrong_input_is_found_before_anything_is_written(
    checkpoint: Path, tmp_path: Path, damage: object, expected: str
) -> None:
    assert callable(damage)
    damage(checkpoint)
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(PlmEdgeError) as error:
        convert(checkpoint, out=target / "m.gguf", progress=NeverBegins())
    assert expected in said(error)
    assert list(target.iterdir()) == []


class NeverBegins:
    def begin(self, total: int) -> None:
        raise AssertionError("the conversion began")

    def advance(self, count: int) -> None:
        raise AssertionError("the conversion began")


def test_another_model_is_named_whatever_its_weights_are(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    config = '{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}'
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(PlmEdgeError, match="LlamaForCausalLM"):
        convert(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"quant": "q9"}, {"layout": "flat"}, {"threads": 0}, {"threads": -1}]
)
def test_wrong_options(checkpoint: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(PlmEdgeError) as error:
        convert(checkpoint, out=tmp_path / "m.gguf", **wrong)  # type: ignore[arg-type]
    assert error.value.code == ExitCode.USAGE
    said(error)
