"""Types per tensor. That they are upstream's for whole files is in test_upstream.py."""

from __future__ import annotations

import pytest
from gguf import GGMLQuantizationType as Q

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.plan.catalogue import catalogue
from plm_edge.converters.plan.config import parse_config
from plm_edge.converters.plan.plm import Kind, tensor_specs
from plm_edge.converters.plan.recipes import (
    ALIASES,
    RECIPES,
    find_recipe,
    fitting_type,
    wanted_type,
)
from plm_edge.converters.tensors import columns
from plm_edge.model.description import Layout
from testkit.checkpoints import PlmShape

PLM_1_8B = PlmShape(
    layers=32, hidden=2048, heads=16, nope=128, rope=64, v=128, kv_lora=512, ffn=8192, vocab=151936
)


def types(quant: str, shape: PlmShape = PLM_1_8B, layout: Layout = "stock") -> dict[str, Q]:
    _, recipe = find_recipe(quant)
    return {
        spec.name: fitting_type(
            wanted_type(recipe, spec, shape.layers, layout), columns(spec.shape)
        )
        for spec in tensor_specs(parse_config(shape.config()))
    }


@pytest.mark.parametrize("layout", ["stock", "edge"])
@pytest.mark.parametrize("quant", RECIPES)
def test_norms_stay_f32_and_all_else_gets_a_type(quant: str, layout: Layout) -> None:
    found = types(quant, layout=layout)
    assert len(found) == 290
    for name, type_ in found.items():
        assert (type_ == Q.F32) == ("norm" in name or quant == "f32"), name


def test_q4_k_m_raises_the_sensitive_layers_to_q6_k() -> None:
    raised = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    found = types("q4_k")
    for layer in range(32):
        expected = Q.Q6_K if layer in raised else Q.Q4_K
        assert found[f"blk.{layer}.attn_kv_b.weight"] == expected
        assert found[f"blk.{layer}.ffn_down.weight"] == expected
        assert found[f"blk.{layer}.ffn_up.weight"] == Q.Q4_K
    assert found["token_embd.weight"] == Q.Q6_K


def test_q4_k_s_raises_the_first_four() -> None:
    found = types("q4_k_s")
    for name in ("attn_kv_b", "ffn_down"):
        assert [found[f"blk.{i}.{name}.weight"] for i in (3, 4)] == [Q.Q5_K, Q.Q4_K]


@pytest.mark.parametrize(
    ("quant", "hidden", "expected"),
    [
        ("q4_k", 96, Q.Q5_0),
        ("q5_k", 96, Q.Q5_1),
        ("q6_k", 96, Q.Q8_0),
        ("q4_0", 96, Q.Q4_0),
        ("iq3_s", 96, Q.IQ4_NL),
        ("q2_k", 96, Q.Q4_0),
        ("q4_k", 48, Q.F16),
        ("q8_0", 48, Q.F16),
        ("bf16", 48, Q.BF16),
    ],
)
def test_rows_that_blocks_do_not_fit_get_a_finer_type(quant: str, hidden: int, expected: Q) -> None:
    assert types(quant, PlmShape(hidden=hidden))["blk.0.ffn_up.weight"] == expected


def test_aliases_and_case() -> None:
    for alias, name in ALIASES.items():
        assert find_recipe(alias.upper()) == (name, RECIPES[name])


def test_unknown_type_lists_the_known_ones() -> None:
    with pytest.raises(PlmEdgeError) as error:
        find_recipe("q3_k_x")
    assert error.value.code == ExitCode.USAGE
    assert "q3_k_x" in error.value.what
    assert all(name in error.value.why for name in (*RECIPES, *ALIASES))


def test_only_some_recipes_differ_between_the_layouts() -> None:
    matrices = {kind for kind in Kind if kind is not Kind.NORM}
    for name, recipe in RECIPES.items():
        assert (types(name, layout="edge") != types(name)) == bool(recipe.edge), name
        assert set(recipe.edge) in (set(), matrices), name
        assert recipe.edge or recipe.file_type_in("edge") == recipe.file_type
        assert recipe.file_type_in("stock") == recipe.file_type


def test_the_catalogue_of_the_edge_layout() -> None:
    stock, edge = catalogue("stock"), catalogue("edge")
    assert {entry.mix for entry in stock} == {"llama.cpp"}
    for theirs, ours in zip(stock, edge, strict=True):
        assert (ours.mix == "plm-edge") == bool(RECIPES[ours.name].edge)
        assert ours.size <= theirs.size if ours.mix == "plm-edge" else ours.size == theirs.size


def test_the_catalogue_has_every_recipe_and_its_true_size() -> None:
    entries = catalogue("stock")
    assert [entry.name for entry in entries] == list(RECIPES)
    sizes = {entry.name: entry.size for entry in entries}
    assert sizes["q4_k_m"] == 1_185_413_120
    assert sizes["f32"] == 4 * 1_825_458_176
    assert {e.name for e in entries if e.needs_imatrix} == {
        n for n in RECIPES if n > "iq1" and n < "iq4"
    }
    assert all(len(entry.advice) > 20 for entry in entries)
