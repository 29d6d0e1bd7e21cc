"""The engine's C functions are called within plm_edge/engine/ alone, and each kind in one place."""

from __future__ import annotations

import re

import pytest

from testkit.checkout import ROOT

PACKAGE = ROOT / "plm_edge"


def users(pattern: str) -> set[str]:
    """Files of the package (its generated bindings left out) whose code matches."""
    return {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "bindings" not in path.relative_to(PACKAGE).parts
        and re.search(pattern, path.read_text(encoding="utf-8"))
    }


@pytest.mark.parametrize(
    ("pattern", "homes"),
    [
        (r"\.llama_(decode|memory_\w+|get_logits\w*|state_\w+)\(", {"engine/context.py"}),
        (r"\.llama_sampler_\w+\b", {"engine/sampler.py"}),
        (r"\.llama_model_\w+\(", {"engine/model.py"}),
        (r"\.llama_(vocab_\w+|tokenize|token_to_piece)\(", {"engine/vocabulary.py"}),
    ],
)
def test_one_place_for_each_kind_of_call(pattern: str, homes: set[str]) -> None:
    assert users(pattern) == homes


def test_nothing_outside_of_the_engine_calls_it() -> None:
    assert {
        name for name in users(r"\.(llama|ggml)_\w+\(") if not name.startswith("engine/")
    } == set()
