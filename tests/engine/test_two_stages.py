"""Logits in two stages in a whole model: which are exact, and when all are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.convert import convert
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.quality.calibration import calibrate
from testkit.checkout import ROOT
from testkit.coarse import damaged

pytestmark = pytest.mark.slow

TEXT = "def mean(values):\n    return sum(values) / len("
OPTIONS = Options(n_ctx=256, threads=2, kv="f32")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=["f32", "q8_0", "q4_k"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path
) -> Path:
    """tiny-plm, calibrated on Python."""
    folder = tmp_path_factory.mktemp("coarse")
    plain, out = folder / "plain.gguf", folder / "coarse.gguf"
    convert(tiny_checkpoint, quant=request.param, out=plain)
    files = sorted((ROOT / "plm_edge/engine").glob("*.py"))
    text = "".join(file.read_text(encoding="utf-8") for file in files)[:12_000]
    calibrate(plain, text, out, OPTIONS)
    return out


def logits(
    model: Path, *, full: bool, exact: bool = False, together: int = 1, planes: bool = False
) -> NDArray[np.float32]:
    """[token, n_vocab] of `TEXT`."""
    options = replace(OPTIONS, exact=exact, planes=planes)
    with Session.open(model, options) as session:
        session.context.full_logits(full)
        session.rows.reset()
        tokens, found = session.tokenize(TEXT), []
        batch = session.context.batch()
        for at in range(0, len(tokens), together):
            batch.clear()
            batch.extend(tokens[at : at + together], at, wanted="all")
            session.context.decode(batch)
            found.append(session.context.logits().copy())
        rows, read = session.rows.head()
    counted = not full and not exact
    assert rows == (len(tokens) * session.context.n_vocab if counted else 0)
    assert not counted or 0 < read < 0.8 * rows
    return np.concatenate(found)


def test_the_likeliest_are_exact_and_the_rest_is_near(model: Path) -> None:
    right, found = logits(model, full=True), logits(model, full=False)
    same = right == found
    assert 0.02 < same.mean() < 0.8
    near_top = right > right.max(1, keepdims=True) - 1
    assert same[near_top].all()
    assert not np.array_equal(right, found)
    assert np.abs(right - found).max() < 6

    def log_p(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        wide = rows.astype(np.float64)
        return wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)

    p, q = log_p(right), log_p(found)
    assert 0 < (np.exp(p) * (p - q)).sum(1).mean() < 3e-3


@pytest.mark.parametrize("together", [1, 3])
def test_all_of_them_are_made_exact_later(model: Path, together: int) -> None:
    """By the output matrix alone: no row of another is read, and the cache stays as it is."""
    right = logits(model, full=True, together=together)
    with Session.open(model, replace(OPTIONS, exact=False, planes=False)) as session:
        context, tokens = session.context, session.tokenize(TEXT)[: 2 * together]
        context.full_logits(False)
        batch = context.batch()
        for at in range(0, len(tokens), together):
            batch.clear()
            batch.extend(tokens[at : at + together], at, wanted="all")
            context.decode(batch)
            there = right[at : at + together]
            assert not np.array_equal(context.logits(), there)
            session.rows.reset()
            assert context.again_in_full()
            assert session.rows.head() == (0, 0)
            np.testing.assert_array_equal(context.logits(), there)
            context.full_logits(False)
        assert context.length() == len(tokens)


def test_exact_is_exact(model: Path) -> None:
    np.testing.assert_array_equal(
        logits(model, full=True, exact=True), logits(model, full=False, exact=True)
    )


def test_a_batch_has_the_bits_of_its_tokens_one_by_one(model: Path) -> None:
    np.testing.assert_array_equal(logits(model, full=False), logits(model, full=False, together=7))


def test_who_looks_at_all_of_them_gets_all(model: Path) -> None:
    """Logprobs are those of full logits; and what comes after them is in two stages again."""
    with Session.open(model, Options(n_ctx=256, threads=2, exact=False, planes=False)) as session:
        generator = LocalGenerator(session)
        prompt = session.tokenize(TEXT)
        asked = Request(prompt, n_predict=4, logprobs=3)
        session.rows.reset()
        told = generator.generate(asked)
        told.whole()
        assert session.rows.head() == (0, 0)
        plain = generator.generate(Request(prompt, n_predict=4))
        plain.whole()
        assert session.rows.head()[0] > 0
        session.context.clear()
        session.context.append(prompt)
        right = session.context.row_logits().astype(np.float64)
    right -= np.logaddexp.reduce(right)
    assert told.logprobs[0].top[0].logprob == pytest.approx(float(right.max()), abs=1e-9)


@pytest.mark.parametrize(
    ("grammar", "agrees"),
    [
        ("root ::= [^\\x00]*", True),
        ("root ::= [0-9] [^\\x00]*", True),
        ("root ::= ([0-9] [A-Z] [~#^])+", False),
        ("root ::= [a-z ]+ [0-9]+", None),
    ],
)
def test_a_grammar_looks_at_all_logits_where_it_refuses_the_likeliest(
    model: Path, grammar: str, agrees: bool | None
) -> None:
    """The text is that of exact logits; while model and grammar agree, most of them are not."""
    told = []
    for exact in (True, False):
        options = Options(n_ctx=256, threads=2, exact=exact, planes=False)
        with Session.open(model, options) as session:
            prompt = session.tokenize(TEXT)
            request = Request(prompt, 24, Sampling(temp=0), grammar=grammar)
            generation = LocalGenerator(session).generate(request)
            told.append((generation.whole(), generation.tokens))
            rows, _ = session.rows.head()
            steps = rows / session.context.n_vocab
            if exact:
                assert steps == 0
            elif agrees is not None:
                assert (steps > 12) == agrees
    assert told[0] == told[1]
    assert told[0][0]


@pytest.mark.parametrize("model", ["f32"], indirect=True)
@pytest.mark.parametrize("name", ["basis", "codes", "bias", "columns", "moments"])
def test_a_part_that_is_missing_or_of_another_size(model: Path, tmp_path: Path, name: str) -> None:
    for how in ("missing", "short", "f16"):
        if (name, how) == ("basis", "f16"):
            continue  # may be
        path = damaged(model, tmp_path / f"{how}.gguf", f"output.coarse.{name}", how)
        with pytest.raises(PlmEdgeError) as caught:
            Session.open(path, OPTIONS)
        assert caught.value.code == ExitCode.INPUT


@pytest.mark.parametrize("model", ["f32"], indirect=True)
def test_columns_that_name_no_value_read_none(model: Path, tmp_path: Path) -> None:
    """What a damaged file asks for lies outside of the hidden state: nothing there is read."""
    path = damaged(model, tmp_path / "wild.gguf", "output.coarse.columns", "wild")
    found = logits(path, full=False)
    right = logits(path, full=True)
    assert (found == right).any(1).all()  # the likeliest are exact whatever the codes say
