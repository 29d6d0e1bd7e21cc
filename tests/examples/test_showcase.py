"""What `make demo` shows is what the model completes, and it is Python."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from plm_edge.engine.greedy import greedy
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from testkit.checkout import ROOT

FOLDER = ROOT / "examples/tiny-plm"


@pytest.fixture(scope="module")
def showcase() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "showcase.json").read_text(encoding="utf-8")))


def test_the_completion_is_the_model_s_and_parses(
    showcase: dict[str, Any], tiny_gguf: Path
) -> None:
    with Session.open(tiny_gguf, Options(n_ctx=512, threads=1)) as session:
        prompt = session.tokenize(showcase["prompt"])
        steps = greedy(session, prompt, showcase["n_tokens"])
        text = b"".join(session.vocabulary.piece(step.token) for step in steps).decode()
    assert text.startswith(showcase["completion"])
    assert min(step.margin for step in steps) > 0.05
    ast.parse(showcase["prompt"] + text)


def test_the_demo_shows_it(showcase: dict[str, Any]) -> None:
    assert (FOLDER / "showcase.txt").read_text(encoding="utf-8") == showcase["prompt"]
    demo = re.search(r"^demo:.*\n(?:\t.*\n)+", (ROOT / "Makefile").read_text(), re.M)
    assert demo is not None
    assert f"-n {showcase['n_tokens']} " in demo[0]
    assert "< examples/tiny-plm/showcase.txt" in demo[0]
    assert f"--quant {showcase['quant']} " in demo[0]
