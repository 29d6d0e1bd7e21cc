"""Recipes of one's own and importance matrices: what is refused, and what is read from a file."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.convert import convert
from plm_edge.converters.plan.choice import choose
from plm_edge.converters.plan.imatrix import read_imatrix
from tests.converters.conftest import said
from tests.converters.gguf_content import read
from tests.converters.imatrix_files import (
    CALLS,
    CHUNKS,
    dat,
    random_entries,
    write_gguf,
    write_imatrix,
)


@pytest.mark.parametrize("legacy", [True, False])
def test_both_formats_hold_the_same(checkpoint: Path, tmp_path: Path, legacy: bool) -> None:
    entries = random_entries(checkpoint)
    matrix = read_imatrix(write_imatrix(tmp_path / "m", checkpoint, legacy=legacy))
    assert (matrix.chunks, matrix.datasets[0]) == (CHUNKS, "text.txt")
    assert set(matrix.entries) == set(entries)
    for name, sums in entries.items():
        np.testing.assert_array_equal(matrix.entries[name], sums / np.float32(CALLS))


def test_old_dat_without_chunks(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(dat(random_entries(checkpoint), trailer=False))
    matrix = read_imatrix(path)
    assert (matrix.chunks, matrix.datasets) == (0, ())
    assert set(matrix.keys()) == {"quantize.imatrix.file", "quantize.imatrix.entries_count"}


def test_columns_that_nothing_was_seen_of_count_one(checkpoint: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m", random_entries(checkpoint), calls=0)
    for entry in read_imatrix(tmp_path / "m").entries.values():
        assert (entry == 1).all()


def test_long_names_are_cut_where_upstream_cuts_them(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("ü" * 80)
    folder.mkdir()
    matrix = read_imatrix(write_imatrix(folder / "m", checkpoint, legacy=True))
    value = matrix.keys()["quantize.imatrix.file"].value
    assert len(value.encode()) in (126, 127)
    assert str(folder).startswith(value)


def damaged(entries: dict[str, np.ndarray]) -> dict[str, bytes]:
    whole = dat(entries)
    first = 4 + 4 + len(next(iter(entries)).encode())
    return {
        "empty": b"",
        "no entries": struct.pack("<i", 0),
        "half a number": whole[:2],
        "cut in a name": whole[:12],
        "cut in the values": whole[: len(whole) // 2],
        "cut in the trailer": whole[:-3],
        "negative length": whole[:4] + struct.pack("<i", -1) + whole[8:],
        "no values": whole[:first] + struct.pack("<ii", 1, 0),
        "a text": b"these are no numbers at all, but words",
    }


@pytest.mark.parametrize("damage", list(damaged({"a": np.ones(2, np.float32)})))
def test_damaged_dat(checkpoint: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(damaged(random_entries(checkpoint))[damage])
    with pytest.raises(PlmEdgeError) as error:
        read_imatrix(path)
    assert "is no importance matrix that can be used" in said(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("legacy", [True, False])
def test_values_that_are_no_numbers(
    checkpoint: Path, tmp_path: Path, value: float, legacy: bool
) -> None:
    entries = random_entries(checkpoint)
    entries["blk.1.ffn_up.weight"][3] = value
    path = write_imatrix(tmp_path / "m", checkpoint, legacy=legacy, entries=entries)
    with pytest.raises(PlmEdgeError, match=r"blk\.1\.ffn_up\.weight"):
        read_imatrix(path)


def test_matrix_cut_short_missing_or_of_another_kind(checkpoint: Path, tmp_path: Path) -> None:
    path = write_imatrix(tmp_path / "m.gguf", checkpoint, legacy=False)
    path.write_bytes(path.read_bytes()[:-100])
    model = tmp_path / "model.gguf"
    convert(checkpoint, out=model)
    for wrong in (path, model, tmp_path / "none"):
        with pytest.raises(PlmEdgeError) as error:
            convert(checkpoint, imatrix=wrong, out=tmp_path / "out.gguf")
        said(error)
    assert not (tmp_path / "out.gguf").exists()


def test_matrix_of_another_model(checkpoint: Path, tmp_path: Path) -> None:
    entries = random_entries(checkpoint)
    name = "blk.0.ffn_down.weight"
    for wrong, expected in (
        (entries | {name: np.ones(7, np.float32)}, f"does not fit {name}"),
        ({"blk.0.attn_k.weight": np.ones(7, np.float32)}, "not of this model"),
    ):
        path = write_imatrix(tmp_path / "m", checkpoint, legacy=True, entries=wrong)
        with pytest.raises(PlmEdgeError) as error:
            convert(checkpoint, imatrix=path, out=tmp_path / "out.gguf")
        assert expected in said(error)


def test_tensors_that_the_matrix_lacks(checkpoint: Path, tmp_path: Path) -> None:
    """A warning, and an error where the type is not to be had without; the embedding may lack."""
    entries = random_entries(checkpoint)
    del entries["blk.0.attn_q.weight"]
    entries["token_embd.weight"] = np.ones(3, np.float32)  # llama.cpp overlooks it too
    path = write_imatrix(tmp_path / "m", checkpoint, legacy=True, entries=entries)
    report = convert(checkpoint, imatrix=path, quant="q8_0", out=tmp_path / "out.gguf")
    assert report.warnings == (
        "the importance matrix has no entry for 1 tensors, blk.0.attn_q.weight among them; "
        "they are quantised without",
    )
    recipe = tmp_path / "r.toml"
    recipe.write_text('base = "q8_0"\n[types]\n\'kv_a_mqa\' = "f16"\n')
    assert convert(checkpoint, imatrix=path, recipe=recipe, out=tmp_path / "2.gguf").warnings


@pytest.mark.parametrize("quant", ["iq3_m", "iq3_s", "iq2_xxs", "IQ1_M"])
def test_few_bits_need_a_matrix(checkpoint: Path, tmp_path: Path, quant: str) -> None:
    with pytest.raises(PlmEdgeError) as error:
        convert(checkpoint, quant=quant, out=tmp_path / "m.gguf")
    assert f"{quant.lower()} needs an importance matrix" in said(error)
    assert error.value.code == ExitCode.USAGE


def test_recipe_that_asks_for_few_bits_without_a_matrix(tmp_path: Path, large: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('base = "q4_k"\n[types]\n\'ffn_up\' = "iq2_xs"\n')
    with pytest.raises(PlmEdgeError) as error:
        convert(large, recipe=recipe, out=tmp_path / "m.gguf")
    assert "blk.0.ffn_up.weight as iq2_xs needs an importance matrix" in said(error)


def test_the_first_pattern_counts_and_norms_stay(checkpoint: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "my-own.toml"
    recipe.write_text('base = "F16"\n[types]\n\'blk\\.0\\..*down\' = "q8_0"\n\'ffn\' = "Q4_0"\n')
    report = convert(checkpoint, recipe=recipe, out=tmp_path / "m.gguf")
    assert report.quant == "my-own"
    types = {name: tensor.type.name for name, tensor in read(tmp_path / "m.gguf").tensors.items()}
    assert types["blk.0.ffn_down.weight"] == "Q8_0"
    assert types["blk.1.ffn_down.weight"] == types["blk.0.ffn_up.weight"] == "Q4_0"
    assert types["blk.0.ffn_norm.weight"] == "F32"
    assert types["blk.0.attn_q.weight"] == "F16"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base = ", "not valid TOML"),
        ("", "no line like base"),
        ("base = 4", "no line like base"),
        ('base = "q9"', "there is no type 'q9'"),
        ('base = "q4_k"\nbits = 3', "'bits'"),
        ('base = "q4_k"\ntypes = 3', "no table"),
        ('base = "q4_k"\n[types]\n\'ffn\' = "q9"', "the type 'q9'"),
        ("base = \"q4_k\"\n[types]\n'ffn' = 3", "the type 3"),
        ('base = "q4_k"\n[types]\n\'(\' = "q8_0"', "no regular expression"),
        ('base = "q4_k"\n[types]\n\'ffn_gate\' = "q8_0"', "'ffn_gate' decides for no tensor"),
        ('base = "q4_k"\n[types]\n\'norm\' = "q8_0"', "norms are always f32"),
        ('base = "q4_k"\n[types]\n\'ffn\' = "q8_0"\n\'ffn_up\' = "f16"', "'ffn_up' decides for no"),
    ],
)
def test_recipe_that_is_wrong(checkpoint: Path, tmp_path: Path, text: str, expected: str) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(text)
    with pytest.raises(PlmEdgeError) as error:
        convert(checkpoint, recipe=recipe, out=tmp_path / "m.gguf")
    assert expected in said(error)
    assert not (tmp_path / "m.gguf").exists()


def test_recipe_and_type_or_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(PlmEdgeError, match="say two things"):
        choose("q4_k", tmp_path / "r.toml", None)
    with pytest.raises(PlmEdgeError, match="cannot read the recipe"):
        choose(None, tmp_path / "r.toml", None)
