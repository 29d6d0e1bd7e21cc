"""Embeddings in parts whose rows are rounded by a text, and whose logits come in two stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plm_edge.bench.analyse import cost
from plm_edge.converters.embed.spec import parse
from plm_edge.converters.tensors import Floats
from plm_edge.engine.session import Session
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.quality.calibration import calibrate
from plm_edge.quality.divergence import log_softmax
from plm_edge.quality.embedding import Parts, embed, products
from testkit.checkout import ROOT
from tests.quality.conftest import ONE_THREAD
from tests.quality.embedded import logits_of, rows_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, tiny_f32: Path, words: str) -> Floats:
    """What tiny-plm's output matrix is multiplied by while it reads: sums of h h^T."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path_factory.mktemp("seen")))
        return products(tiny_f32, words, ONE_THREAD)


@pytest.mark.parametrize(
    "form",
    [
        *("tt:ratio=1.5", "r1,split=1000:q5_k/q3_k", "split=1000:q8_0/q3_k"),
        *(pytest.param(form, marks=pytest.mark.full) for form in ("r1", "type=q4_k")),
    ],
)
def test_logits_in_two_stages(
    tmp_path: Path, tiny_gguf: Path, words: str, seen: Floats, form: str
) -> None:
    """Likely ones are those of the model without a coarse form, whatever parts they are made of."""
    path, coarse = tmp_path / "embedded.gguf", tmp_path / "coarse.gguf"
    embed(tiny_gguf, path, Parts(parse(form), products=seen, workers=2))
    calibrate(path, words, coarse, ONE_THREAD)
    said = describe(gguf_file.read(coarse))
    assert said.two_stages
    assert said.embedding == describe(gguf_file.read(path)).embedding
    expected = logits_of(path, ONE_THREAD)
    # a product and a sum may be rounded at once; without a coarse form K-quants are laid out anew
    slack = 0.0 if form == "split=1000:q8_0/q3_k" else 2e-5
    np.testing.assert_allclose(logits_of(coarse, ONE_THREAD), expected, 0, slack)
    two_stages = replace(ONE_THREAD, full_logits=False)
    np.testing.assert_allclose(
        logits_of(coarse, replace(two_stages, exact=True)),
        logits_of(path, replace(two_stages, exact=True)),
        *(0, slack),
    )
    found = logits_of(coarse, two_stages)
    likely = expected > expected.max(1, keepdims=True) - 1
    np.testing.assert_allclose(found[likely], expected[likely], 0, slack)
    chances = np.exp(log_softmax(expected))
    assert 0 < (chances * (log_softmax(expected) - log_softmax(found))).sum(1).mean() < 0.003
    with Session.open(coarse, replace(two_stages, n_ctx=64)) as session:
        session.rows.reset()
        session.context.append([5])
        rows, read = session.rows.head()
    assert rows == 4096
    assert 0 < read < rows
    header = gguf_file.read(coarse)
    of_head = "output.weight" if form.startswith("tt") else "token_embd."
    expected_bytes = sum(t.n_bytes for t in header.tensors if t.name.startswith(of_head))
    assert cost.of(header, "f32", sparse=True).head_bytes == expected_bytes


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory, tiny_f32: Path) -> Floats:
    """As `seen`, of another text."""
    words = (ROOT / "plm_edge/engine/session.py").read_text(encoding="utf-8")[:8000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path_factory.mktemp("judge")))
        return products(tiny_f32, words, ONE_THREAD)


@pytest.mark.parametrize("form", ["type=q4_k", "r1,split=1024:q5_k/q3_k"])
def test_rows_are_rounded_by_a_text(
    tmp_path: Path, tiny_f32: Path, seen: Floats, judge: Floats, form: str
) -> None:
    """Logits are off by less than where columns are but weighed, also of another text."""
    weighed, rounded = tmp_path / "weighed.gguf", tmp_path / "rounded.gguf"
    embed(tiny_f32, weighed, Parts(parse(form), weights=np.diag(seen).copy(), workers=2))
    embed(tiny_f32, rounded, Parts(parse(form), products=seen, workers=2))
    one, other = gguf_file.read(weighed), gguf_file.read(rounded)
    assert [(t.name, t.type) for t in one.tensors] == [(t.name, t.type) for t in other.tensors]
    exact = rows_of(tiny_f32)[1]

    def lost(path: Path) -> float:
        error = rows_of(path)[1] - exact
        return float(np.einsum("ij,ij->", error @ judge, error))

    assert lost(rounded) < 0.85 * lost(weighed)


def test_a_plain_embedding_is_of_no_form(tmp_path: Path, tiny_f32: Path, seen: Floats) -> None:
    """Any program reads it."""
    path = tmp_path / "plain.gguf"
    found = embed(tiny_f32, path, Parts(parse("type=q5_k"), products=seen))
    assert found.outline.size == 4096 * 176
    keys = gguf_file.read(path).keys
    assert [key for key in keys if "embed." in key] == ["plm_edge.embed.importance"]
    assert describe(gguf_file.read(path)).embedding == ""
