"""The engine's C functions are called within plm_edge/engine/ alone, and each kind in one place."""

from __future__ import annotations

import re

import pytest

from testkit.checkout import ROOT

PACKAGE = ROOT / "plm_edge"


def users(pattern: str) -> set[str]:
    """Files of the package (its generated bindings left out) whose code matches."""
    # rglob does not follow the link plm_edge/converters
    paths = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    paths |= {str(path.relative_to(ROOT)): path for path in (ROOT / "converters").rglob("*.py")}
    return {
        name
        for name, path in paths.items()
        if not name.startswith("bindings/") and re.search(pattern, path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize(
    ("pattern", "homes"),
    [
        (r"\.llama_(decode|memory_\w+|get_logits\w*|state_\w+)\(", {"engine/context.py"}),
        (r"\.llama_sampler_\w+\b", {"engine/sampler.py", "engine/grammar.py"}),
        (r"\.llama_model_\w+\(", {"engine/model.py"}),
        (r"\.llama_(vocab_\w+|tokenize|token_to_piece)\(", {"engine/vocabulary.py"}),
    ],
)
def test_one_place_for_each_kind_of_call(pattern: str, homes: set[str]) -> None:
    assert users(pattern) == homes


def test_nothing_outside_of_the_engine_calls_it() -> None:
    assert {
        name for name in users(r"\.(llama|ggml)_(?!pad\b)\w+\(") if not name.startswith("engine/")
    } == set()
