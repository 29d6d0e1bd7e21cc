"""Speculation: what is guessed, when it pays, and that the text is the one without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.generate.speculation import MOST, Lookup, Pace
from testkit import plm_gguf

CODE = "def first(a, b):\n    return a + b\n\ndef second(a, b):\n    return a + b\n\n"


def test_what_stood_there_before_comes_again() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 6, 9, 2, 3, 4])
    assert lookup.draft(2) == [5, 6]
    lookup.extend([7])
    assert lookup.draft(2) == []
    lookup.extend([2, 3])
    assert lookup.draft(3) == [4, 7, 2]  # the newest place


def test_a_draft_goes_on_after_the_end_of_the_text() -> None:
    assert Lookup([8, 1, 2, 1, 2]).draft(5) == [1, 2, 1, 2, 1]


def test_the_pace_follows_what_is_measured() -> None:
    pace = Pace()
    assert pace.choose(7) == 0  # nothing measured yet
    for n in range(1, MOST + 1):
        pace.took(n, 1.0 + 0.1 * (n - 1), 1)
    for _ in range(50):
        pace.guessed(True)
    assert pace.choose(7) == 7
    assert pace.choose(3) == 3
    for _ in range(50):
        pace.guessed(False)
    assert pace.choose(7) == 0


def test_where_together_takes_as_long_as_one_by_one_nothing_is_guessed() -> None:
    pace = Pace()
    for n in range(1, MOST + 1):
        pace.took(n, float(n), 1)
    for _ in range(20):
        pace.guessed(True)
        pace.guessed(False)
    assert pace.choose(7) == 0


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guess as many as there are, whether it pays or not."""
    monkeypatch.setattr(Pace, "choose", lambda self, most: max(0, most) if self._seconds else 0)


@pytest.fixture(scope="module")
def llama_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plm_gguf.write(tmp_path_factory.mktemp("llama") / "llama.gguf", arch="llama")


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("kv", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("model", ["tiny_gguf", "llama_gguf"])
@pytest.mark.parametrize("temp", [0.0, 0.8])
def test_the_text_is_the_one_without(
    request: pytest.FixtureRequest, model: str, kv: str, temp: float
) -> None:
    """Greedy, and drawn with a seed; also in a long context."""
    path: Path = request.getfixturevalue(model)
    with Session.open(path, Options(n_ctx=1024, threads=1, kv=kv)) as session:
        generator = LocalGenerator(session)
        for repeats in (1, 24):
            prompt = session.tokenize(CODE * repeats)[:700]
            texts = []
            for speculate in (False, True):
                sampling = Sampling(temp=temp, seed=5)
                generation = generator.generate(Request(prompt, 120, sampling, speculate=speculate))
                generation.whole()
                texts.append((generation.tokens, generation.stop_reason))
            assert texts[0] == texts[1]
            if model == "tiny_gguf":  # the other one's words are random, and seldom come twice
                assert generation.stats.n_drafted > 0


@pytest.mark.slow
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("kv", ["f16", "q8_0", "q4_0"])
def test_a_chat_model_says_what_it_says_without(chat_gguf: Path, kv: str) -> None:
    with Session.open(chat_gguf, Options(n_ctx=1024, threads=2, kv=kv)) as session:
        generator = LocalGenerator(session)
        asked = f"Write this class again, with a third function:\n\n{CODE * 4}"
        prompt = generator.encode(asked).tokens
        found = []
        for speculate in (False, True):
            generation = generator.generate(
                Request(prompt, 96, Sampling(temp=0), speculate=speculate)
            )
            found.append((generation.whole(), generation.tokens))
        assert found[0] == found[1]
        assert generation.stats.n_accepted > 10


@pytest.mark.parametrize("kv", ["f16", "q8_0", "q4_0", "f32"])
@pytest.mark.parametrize("model", ["tiny_gguf", "llama_gguf"])
@pytest.mark.parametrize("length", [40, 700])
def test_tokens_together_have_the_bits_that_they_have_alone(
    request: pytest.FixtureRequest, model: str, kv: str, length: int
) -> None:
    path: Path = request.getfixturevalue(model)
    with Session.open(path, Options(n_ctx=1024, threads=1, kv=kv, max_outputs=MOST)) as session:
        context = session.context
        tokens = session.tokenize(CODE * 40)[: length + MOST]
        for start in range(0, length, context.n_batch):
            context.append(tokens[start : min(start + context.n_batch, length)])
        alone = []
        for token in tokens[length:]:
            context.append([token])
            alone.append(context.row_logits().copy())
        for n in range(2, MOST + 1):
            context.remove(0, length)
            batch = context.batch(MOST)
            batch.extend(tokens[length : length + n], length, wanted="all")
            context.decode(batch)
            np.testing.assert_array_equal(context.logits(), alone[:n])


@pytest.mark.usefixtures("always")
def test_where_a_batch_rounds_differently_nothing_is_guessed(tiny_gguf: Path) -> None:
    with Session.open(tiny_gguf, Options(n_ctx=512, threads=1, flash_attn="off")) as session:
        prompt = session.tokenize(CODE * 3)
        generation = LocalGenerator(session).generate(Request(prompt, 40, Sampling(temp=0)))
        generation.whole()
        assert generation.stats.n_drafted == 0


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("n_ctx", [256, 257, 260])
def test_the_context_and_the_limit_are_kept(tmp_path: Path, n_ctx: int) -> None:
    """As without drafts: a full context stops the text, and n_predict and a stop string do."""
    model = plm_gguf.write(tmp_path / "abc.gguf", script=b"abc")
    with Session.open(model, Options(n_ctx=n_ctx, threads=1)) as session:
        generator = LocalGenerator(session)
        for limit, stop in ((None, ()), (50, ()), (None, ("cab",))):
            found = []
            for speculate in (False, True):
                request = Request([1] * 20, limit, Sampling(temp=0), stop, speculate=speculate)
                generation = generator.generate(request)
                found.append((generation.whole(), generation.tokens, generation.stop_reason))
            assert found[0] == found[1]
        again = generator.generate(Request([1] * 20, 9, Sampling(temp=0)))
        assert again.whole() == "abcabcabc"
