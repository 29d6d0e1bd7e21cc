"""Patterns become texts within JSON strings: json.loads reads them, and re agrees."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.generate.schema import Schema
from plm_edge.generate.schema.patterns import UnsupportedPattern, rewrite
from testkit import plm_gguf


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGenerator]:
    model = plm_gguf.write(tmp_path_factory.mktemp("patterns") / "random.gguf")
    with Session.open(model, Options(threads=1, n_ctx=256)) as session:
        yield LocalGenerator(session)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[a-z]{2,4}\d$", r"^\w+@\w+\.(com|org)$", r"^.{3}$", r'^[^a]"\\[x"y]$', r"^a\n\tb$",
        r"^(?:ab|c)+?d$", r"^[\d\-_]{4}$", r"^\S\s\W\D$", r"^[^\"\\]{2}$", r"^é?\/$", r"^\[\]\{\}$",
    ],
)  # fmt: skip
def test_what_is_made_is_matched(random: LocalGenerator, pattern: str) -> None:
    schema = Schema.of({"type": "string", "pattern": pattern})
    assert schema.loose == ()
    for seed in range(4):
        generation = random.generate(
            Request([seed], 80, Sampling(1.0, 0, 1.0, 0.0, seed), grammar=schema.grammar)
        )
        text = generation.whole()
        if generation.stop_reason == "end" and "\ufffd" not in text:
            assert re.search(pattern, json.loads(text)), text
            assert schema.fault(text) is None


@pytest.mark.parametrize(
    "pattern", ["^(?=a)b$", r"^(a)\1$", "^a|b$", "^a^b$", r"^\bx$", "^[a", "^a\\"]
)
def test_what_no_grammar_can_say(pattern: str) -> None:
    with pytest.raises(UnsupportedPattern):
        rewrite(pattern)


def test_without_anchors_anything_may_stand_around() -> None:
    assert rewrite("ab") == r"^[^\"\\\x00-\x1F\x7F]*(ab)[^\"\\\x00-\x1F\x7F]*$"
