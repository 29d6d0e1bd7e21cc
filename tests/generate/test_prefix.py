"""What the context holds of a prompt is not computed again, and the text is as if it were."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate import prefix
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Generation, Request
from plm_edge.generate.sampling import Sampling

TEXT = "def area(width, height):\n    return width * height\n\nfor i in range(10):\n    print(i)\n"


def test_parts_of_a_prompt() -> None:
    assert prefix.batches(0, 5, 512) == [(0, 5)]
    assert prefix.batches(0, 100, 512) == [(0, 99), (99, 100)]
    assert prefix.batches(0, 1025, 512) == [(0, 512), (512, 1024), (1024, 1025)]
    assert prefix.batches(99, 100, 512) == [(99, 100)]
    assert prefix.batches(0, 64, 16) == [(0, 16), (16, 32), (32, 48), (48, 63), (63, 64)]


def say(generator: LocalGenerator, prompt: list[int], n: int = 20) -> Generation:
    generation = generator.generate(Request(prompt, n, Sampling(temp=0)))
    generation.whole()
    return generation


@pytest.mark.parametrize("kv", ["f16", "q8_0", "q4_0"])
def test_the_same_prompt_costs_one_token(tiny_gguf: Path, kv: str) -> None:
    with Session.open(tiny_gguf, Options(n_ctx=1024, threads=1, kv=kv)) as session:
        generator = LocalGenerator(session)
        prompt = session.tokenize(TEXT * 10)[:250]
        first = say(generator, prompt)
        again = say(generator, prompt)
        assert first.tokens == again.tokens
        assert (first.stats.n_reused_memory, again.stats.n_reused_memory) == (0, 249)


def test_a_conversation_computes_what_is_new(tiny_gguf: Path) -> None:
    with Session.open(tiny_gguf, Options(n_ctx=1024, threads=1)) as session:
        generator = LocalGenerator(session)
        prompt = session.tokenize(TEXT * 6)[:120]
        answer = say(generator, prompt)
        longer = [*prompt, *answer.tokens, *session.tokenize("x = 1\n", add_special=False)]
        reused = say(generator, longer).stats.n_reused_memory
        assert len(prompt) < reused < len(longer)  # all but the answer's last token
        other = [*prompt[:100], *reversed(prompt)]
        assert say(generator, other).stats.n_reused_memory in (100, 101)
        assert say(LocalGenerator(session), other).stats.n_reused_memory == 0


def test_what_others_do_with_the_context_is_noticed(tiny_gguf: Path) -> None:
    with Session.open(tiny_gguf, Options(n_ctx=1024, threads=1)) as session:
        generator = LocalGenerator(session)
        prompt = session.tokenize(TEXT * 6)[:120]
        expected = say(generator, prompt).tokens
        length = session.context.length()
        session.context.clear()
        session.context.append(prompt[:1] * length)  # as many tokens, but others
        again = say(generator, prompt)
        assert again.stats.n_reused_memory == 0
        assert again.tokens == expected
