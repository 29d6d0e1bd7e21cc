"""The mixtures of the edge layout are the ones that were measured best."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import report
from benchmarks.divergence import CHECKPOINT
from benchmarks.recipes import mix_sizes, upstream_sizes
from benchmarks.recipes_report import better, section
from plm_edge.converters.plan.config import read_config
from plm_edge.converters.plan.plm import Kind
from plm_edge.converters.plan.recipes import RECIPES

KINDS = [kind for kind in Kind if kind is not Kind.NORM]


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return report.recorded("recipes")


def test_the_section_says_which_are_kept_and_what_is_not_known(data: dict[str, Any]) -> None:
    text = section(data)
    for name, quant in data["quants"].items():
        assert (f"| {name} (llama.cpp's is kept) |" in text) == (not better(quant))
    assert "What tiny-plm cannot show" in text


def test_each_recipe_has_the_mixture_that_won(data: dict[str, Any]) -> None:
    assert data["kinds"] == [kind.name.lower() for kind in KINDS]
    won = {
        name: dict(zip(KINDS, quant["candidates"][0]["types"], strict=True))
        for name, quant in data["quants"].items()
        if better(quant)
    }
    assert won == {
        name: {kind: type_.name.lower() for kind, type_ in recipe.edge.items()}
        for name, recipe in RECIPES.items()
        if recipe.edge and name in data["quants"]
    }


def test_other_mixtures_are_no_larger_and_keep_their_type_in_the_mlp(data: dict[str, Any]) -> None:
    tiny = read_config(CHECKPOINT)
    others = [
        name for name, recipe in RECIPES.items() if recipe.edge and name not in data["quants"]
    ]
    assert len(others) == 11
    for name in others:
        recipe = RECIPES[name]
        assert recipe.edge[Kind.FFN_UP] == recipe.edge[Kind.FFN_DOWN] == recipe.base
        sizes = mix_sizes(tuple(recipe.edge[kind] for kind in KINDS), tiny)
        for measure, limit in upstream_sizes(name, tiny).items():
            assert sizes[measure] <= limit, (name, measure)


def test_what_won_is_smaller_and_was_chosen_on_one_half_only(data: dict[str, Any]) -> None:
    for name, quant in data["quants"].items():
        found = [candidate["kl_chosen_on"] for candidate in quant["candidates"]]
        assert found[0] == min(found), name
        for measure, limit in quant["upstream"]["sizes"].items():
            assert all(c["sizes"][measure] < limit for c in quant["candidates"]), (name, measure)
