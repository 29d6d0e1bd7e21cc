"""Grammars: broken ones are named, the text obeys, and greedy text stays where they agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import grammar
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGeneration, LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from testkit import plm_gguf

GREEDY = Sampling(temp=0)


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGenerator]:
    """A model of random weights over bytes: what it says is no UTF-8 most of the time."""
    model = plm_gguf.write(tmp_path_factory.mktemp("grammar") / "random.gguf")
    with Session.open(model, Options(threads=1, n_ctx=512)) as session:
        yield LocalGenerator(session)


def generate(
    generator: LocalGenerator, text: str, sampling: Sampling = GREEDY, n: int = 40
) -> LocalGeneration:
    generation = generator.generate(Request([1, 2, 3], n, sampling, grammar=text))
    generation.whole()
    return generation


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('root ::= "a" | foo', "line 1: there is no rule foo"),
        ('root ::= "a"\nb ::= [a', "line 2: it ends"),
        ('root := "a"', "line 1, column 6: expecting ::="),
        ('root ::= "a"\n\nb ::= ("c" | "d"\n\nc ::= "é"', "line 5, column 3: expecting ')'"),
        ('other ::= "a"', "'root'"),
        ('root ::= root "a"', "left recursion"),
        (" \n", "empty"),
        ('root ::= "a\0"', "zero byte"),
    ],
)
def test_a_broken_grammar_is_named_with_its_place(
    text: str, where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        grammar.check(text)
    assert where in caught.value.why
    assert caught.value.code == ExitCode.USAGE
    assert capfd.readouterr() == ("", "")


def test_names_of_tokens_wait_for_a_model() -> None:
    grammar.check("root ::= <|end|>")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ('root ::= "yes" | "no"', "yes|no"),
        ('root ::= [a-c]{3} "é" [0-9]+ "."', "[a-c]{3}é[0-9]+\\.?"),
        ('root ::= ("x" | "yz")*', "(x|yz)*y?"),
    ],
)
@pytest.mark.parametrize("temp", [0.0, 1.5])
def test_the_text_obeys(random: LocalGenerator, text: str, pattern: str, temp: float) -> None:
    for seed in range(3):
        generation = random.generate(
            Request([5 + seed], 30, Sampling(temp, 0, 1, 0, seed), grammar=text)
        )
        assert re.fullmatch(pattern, generation.whole())


def test_top_k_counts_what_is_allowed(random: LocalGenerator) -> None:
    """The 40 likeliest tokens of a random model hold none of the allowed ones, mostly."""
    text = generate(random, "root ::= [xyz]{20}", Sampling(1, 40, 1, 0, 1))
    assert len(text.tokens) == 20
    assert len({*text.tokens}) > 1


def test_greedy_with_a_grammar_takes_the_likeliest_that_is_allowed(random: LocalGenerator) -> None:
    generation = random.generate(Request([9], 6, GREEDY, grammar="root ::= [a-z]{6}", logprobs=100))
    generation.whole()
    letters = set(b"abcdefghijklmnopqrstuvwxyz")
    for chosen in generation.logprobs:
        allowed = [other.token for other in chosen.top if other.token in letters]
        assert not allowed or allowed[0] == chosen.token


def test_greedy_stays_the_same_where_the_grammar_does_not_bind(tiny_gguf: Path) -> None:
    with Session.open(tiny_gguf, Options(threads=1, n_ctx=256)) as session:
        generator = LocalGenerator(session)
        prompt = session.tokenize("def add(a, b):\n    return ")
        plain = generator.generate(Request(prompt, 32, GREEDY))
        plain.whole()
        held = generator.generate(Request(prompt, 32, GREEDY, grammar=r"root ::= [^\x00]*"))
        held.whole()
        assert held.tokens == plain.tokens


def test_what_nothing_can_continue_is_an_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A token's name in a grammar, of a model that never says it: here a sign of control."""
    with Session.open(
        plm_gguf.write(tmp_path_factory.mktemp("g") / "m.gguf"), Options(threads=1, n_ctx=64)
    ) as session:
        generator = LocalGenerator(session)
        with pytest.raises(PlmEdgeError, match="allows nothing"):
            generator.generate(Request([1], 4, GREEDY, grammar="root ::= <[999]>")).whole()
