"""Generating here: requests are checked, stop strings end the text, a prompt takes its template."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate import prompt as prompts
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Generation, Generator, Message, Request
from plm_edge.generate.sampling import Sampling
from testkit import plm_gguf

GREEDY = Sampling(temp=0)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generator]:
    """A model that says "abcabc…" for ever."""
    model = plm_gguf.write(tmp_path_factory.mktemp("local") / "abc.gguf", script=b"abc")
    with Session.open(model, Options(threads=1, n_ctx=256)) as session:
        yield LocalGenerator(session)


@pytest.mark.parametrize(
    ("stop", "text", "tokens"),
    [
        (("ca",), "ab", b"abca"),
        (("c",), "ab", b"abc"),
        (("abcb", "bcab"), "a", b"abcab"),
        (("x",), "abcabcab", b"abcabcab"),
    ],
)
def test_stop_strings(
    generator: Generator, stop: tuple[str, ...], text: str, tokens: bytes
) -> None:
    """The text ends before the string; `tokens` are all that were made."""
    generation: Generation = generator.generate(Request([1], 8, GREEDY, stop))
    assert generation.whole() == text
    assert generation.tokens == [*tokens]
    assert generation.stop_reason == ("length" if stop == ("x",) else "stop")
    assert generation.stats.n_generated == len(tokens)


def test_what_may_become_a_stop_string_comes_at_the_end(generator: Generator) -> None:
    generation = generator.generate(Request([1], 5, GREEDY, ("abd", "bcaba")))
    assert list(generation) == ["a", "bcab"]
    assert generation.stop_reason == "length"


@pytest.mark.parametrize(
    ("request_", "what", "code"),
    [
        (Request([]), "the prompt is empty", ExitCode.USAGE),
        (Request([1] * 256), "the prompt does not fit the context", ExitCode.INPUT),
        (Request([1], stop=("a", "")), "a stop string is empty", ExitCode.USAGE),
        (Request([1], sampling=Sampling(top_p=0)), "--top-p 0 is out of range", ExitCode.USAGE),
    ],
)
def test_requests_that_cannot_be(
    generator: Generator, request_: Request, what: str, code: ExitCode
) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        generator.generate(request_)
    assert (caught.value.what, caught.value.code) == (what, code)


def test_the_remedy_knows_what_the_model_was_trained_for() -> None:
    def fix(n_prompt: int, trained: int | None) -> str:
        with pytest.raises(PlmEdgeError) as caught:
            Request([1] * n_prompt).checked(64, trained)
        return caught.value.fix

    assert fix(300, 4096) == "use --ctx 768"
    assert fix(300, 512) == "use --ctx 512"
    assert fix(300, 200) == "shorten the prompt"
    assert fix(300, None) == "raise --ctx, or shorten the prompt"


def test_a_drawn_seed_can_be_read(generator: Generator) -> None:
    request = generator.generate(Request([1], 1)).request
    assert request.sampling.seed is not None


def test_a_prompt_without_a_template_is_sent_as_it_is(generator: Generator) -> None:
    encoded = generator.encode("größe")
    assert (encoded.tokens, encoded.templated) == ([*"größe".encode()], False)


def test_messages_take_the_template_and_a_base_model_has_none(generator: Generator) -> None:
    messages: list[Message] = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
    ]
    template = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}>"

    def tokenize(text: str, *, add_special: bool) -> list[int]:
        return [*text.encode()] if not add_special else [0, *text.encode()]

    encoded = prompts.encode(messages, tokenize, template)
    assert bytes(encoded.tokens) == b"system=S;user=U;assistant=A;>"
    assert encoded.templated
    assert bytes(prompts.encode("U", tokenize, template).tokens) == b"user=U;>"
    with pytest.raises(PlmEdgeError, match="base model"):
        generator.encode(messages)


def test_prefill_tells_how_far_it_is(generator: Generator) -> None:
    told: list[tuple[int, int]] = []
    request = Request([1] * 100, 1, on_prefill=lambda done, total: told.append((done, total)))
    generator.generate(request).whole()
    assert told[-1] == (100, 100)
    assert told == sorted(told)
