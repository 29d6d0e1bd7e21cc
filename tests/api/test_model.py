"""The Python API over tiny-plm: what it returns is what the engine computes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plm_edge import Answer, Message, Model, PlmEdgeError
from plm_edge.base.errors import ExitCode
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from testkit import plm_gguf
from testkit.checkout import ROOT

PROMPT = "def add(a, b):\n    return a + b\n\n\ndef mul(a, b):"
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


@pytest.fixture(scope="module")
def model(tiny_gguf: Path) -> Iterator[Model]:
    with Model.load(tiny_gguf, ctx=512, threads=1) as model:
        yield model


def test_import_is_light() -> None:
    code = "import plm_edge, sys; print(sorted({'numpy', 'rich', 'typer'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"
    with pytest.raises(ImportError):
        from plm_edge import nonsense  # noqa: F401
    assert (ROOT / "plm_edge" / "py.typed").is_file()


def test_stream_and_generate_say_the_same(model: Model) -> None:
    stream = model.stream(PROMPT, n_predict=24, temp=0)
    parts = list(stream)
    answer = model.generate(PROMPT, n_predict=24, temp=0)
    assert len(parts) > 1
    assert "".join(parts) == stream.answer.text == answer.text == str(answer)
    assert answer.tokens == stream.answer.tokens
    assert answer.stop_reason == "length"
    assert model.stats is not None
    assert model.stats.n_generated == 24
    assert model.detokenize(answer.tokens) == answer.text


def test_logits_are_the_engines(tiny_gguf: Path) -> None:
    with Model(tiny_gguf, ctx=512, threads=1, exact=True) as model:
        tokens = (model.tokenize(PROMPT) * 4)[:70]  # several parts
        logits = model.logits(tokens)
        n_vocab = model.n_vocab
    assert logits.shape == (len(tokens), n_vocab)
    assert logits.dtype == np.float32
    with Session.open(tiny_gguf, Options(n_ctx=512, threads=1, exact=True)) as session:
        for count in (1, 31, 32, 33, 70):
            session.context.clear()
            session.context.append(tokens[:count])
            expected = session.context.row_logits()
            # batches of other sizes round differently, and the weights are in q4_k
            np.testing.assert_allclose(logits[count - 1], expected, atol=0.3)
            favourite = expected[int(np.argmax(logits[count - 1]))]
            assert favourite >= expected.max() - 0.6  # two may be as near as that allows


def test_log_probabilities_of_a_text_are_those_of_its_logits(model: Model) -> None:
    tokens = model.tokenize(PROMPT)
    logits = model.logits(tokens).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    found = model.logprobs(PROMPT)
    assert [one.token for one in found] == tokens[1:]
    assert all(one.logprob <= 0 for one in found)
    for at, one in enumerate(found):
        assert one.logprob == pytest.approx(expected[at, tokens[at + 1]], abs=1e-6)
    assert b"".join(one.piece for one in found) in PROMPT.encode()


def test_log_probabilities_of_an_answer(model: Model) -> None:
    answer = model.generate(PROMPT, n_predict=8, temp=0, logprobs=3)
    assert [one.token for one in answer.logprobs] == answer.tokens
    whole = model.logprobs([*model.tokenize(PROMPT), *answer.tokens])[-len(answer.tokens) :]
    for one, scored in zip(answer.logprobs, whole, strict=True):
        assert one.top[0].token == one.token
        assert [other.logprob for other in one.top] == sorted(
            (other.logprob for other in one.top), reverse=True
        )
        assert one.logprob == pytest.approx(scored.logprob, abs=0.05)


@pytest.mark.parametrize("kv", ["f16", "q8_0", "q4_0"])
def test_a_restored_state_gives_the_same_greedy_tokens(
    tiny_gguf: Path, tmp_path: Path, kv: str
) -> None:
    file = tmp_path / "a.state"
    longer = PROMPT + " return"
    with Model.load(tiny_gguf, ctx=256, threads=1, kv=kv) as model:
        model.generate(PROMPT, n_predict=0)
        n_tokens = model.save_state(file)
        assert n_tokens == len(model.tokenize(PROMPT))
        assert [*tmp_path.iterdir()] == [file]
        model.restore_state(file)
        warm = model.generate(longer, n_predict=24, temp=0)
    with Model.load(tiny_gguf, ctx=256, threads=1, kv=kv) as model:
        model.generate("something else", n_predict=4)
        assert model.restore_state(file) == n_tokens
        told: list[tuple[int, int]] = []
        again = model.generate(
            longer, n_predict=24, temp=0, on_prefill=lambda done, all_: told.append((done, all_))
        )
        assert again.tokens == warm.tokens
        assert told[0][0] > n_tokens  # the rest alone was computed
        assert model.generate(longer, n_predict=24, temp=0).tokens == warm.tokens


def test_states_that_are_refused(model: Model, tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.state"
    model.generate(PROMPT, n_predict=2)
    model.save_state(file)
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"nonsense", whole[:40]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            model.restore_state(file)
    file.write_bytes(whole)
    other = plm_gguf.write(tmp_path / "other.gguf")
    for name, path, kv in (("model", other, "f16"), ("type of the KV cache", tiny_gguf, "q8_0")):
        with (
            Model.load(path, ctx=256, threads=1, kv=kv) as foreign,
            pytest.raises(PlmEdgeError, match=f"another {name}"),
        ):
            foreign.restore_state(file)
    with (
        Model.load(tiny_gguf, ctx=8, threads=1) as small,
        pytest.raises(ValueError, match="does not fit"),
    ):
        small.restore_state(file)
    with pytest.raises(FileNotFoundError):
        model.restore_state(tmp_path / "none.state")


def test_a_schema_and_a_grammar(model: Model) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 3}},
        "required": ["n"],
    }
    answer = model.generate("n: ", schema=schema, seed=1)
    assert answer.json()["n"] >= 3
    cut = model.generate("n: ", schema=json.dumps(schema), n_predict=1)
    assert cut.fault is not None
    with pytest.raises(ValueError, match="not JSON"):
        cut.json()
    assert model.generate("?", grammar='root ::= "yes" | "no"').text in ("yes", "no")
    with pytest.raises(PlmEdgeError, match="grammar"):
        model.generate("?", grammar="root ::= [")
    with pytest.raises(PlmEdgeError, match="two forms"):
        model.generate("?", grammar="root ::= [a]", schema={})
    with pytest.raises(PlmEdgeError, match="no setting max_tokens"):
        model.generate("?", max_tokens=3)  # type: ignore[call-arg]


def test_chat(model: Model, tmp_path: Path) -> None:
    assert not model.is_instruct
    with pytest.raises(PlmEdgeError, match="base model"):
        model.chat("Hello")
    path = plm_gguf.write(tmp_path / "chat.gguf", script=b"abc", chat_template=CHAT)
    with Model.load(path, threads=1, ctx=128) as instruct:
        assert instruct.is_instruct
        said: list[Message] = [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "U"},
        ]
        answer = instruct.chat(said, n_predict=3, temp=0)
        assert answer.text == "abc"
        assert answer.stats.n_prompt == len("<system>S<user>U<assistant>")
        assert instruct.chat("U", n_predict=1).stats.n_prompt == len("<user>U<assistant>")
        assert instruct.generate("U", n_predict=1, raw=True).stats.n_prompt == 1


def test_another_use_breaks_a_stream_off(model: Model) -> None:
    stream = model.stream(PROMPT, n_predict=24, temp=0)
    next(stream)
    model.logits("x")
    with pytest.raises(PlmEdgeError, match="broken off"):
        next(stream)
    with pytest.raises(RuntimeError, match="no whole answer"):
        _ = stream.answer


def test_threads_take_turns(model: Model) -> None:
    expected = model.generate(PROMPT, n_predict=12, temp=0).tokens
    found: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: found.append(model.generate(PROMPT, n_predict=12, temp=0)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.tokens for answer in found] == [expected] * 4


def test_mistakes(model: Model, tmp_path: Path) -> None:
    for wrong in ([], [model.n_vocab], "x" * 5000):
        with pytest.raises((PlmEdgeError, ValueError)):
            model.logits(wrong)
    with pytest.raises(ValueError, match="no token"):
        model.detokenize([-1])
    with pytest.raises(PlmEdgeError):
        Model.load(tmp_path / "none.gguf")
    closed = Model.load(model.path, threads=1, ctx=64)
    closed.close()
    closed.close()
    with pytest.raises(PlmEdgeError, match="closed"):
        closed.generate("x")
    assert "closed" in repr(closed)
    assert not closed.is_instruct  # what it was stays known, and no freed memory is read
    assert closed.n_vocab == model.n_vocab


@pytest.mark.parametrize(
    "wrong",
    [
        {"ctx": 0}, {"ctx": -1}, {"ctx": 64.5}, {"threads": 0}, {"threads": "two"}, {"kv": "f8"},
        {"kv": None}, {"gpu_layers": -2}, {"gpu_layers": "all"}, {"prompt_cache": 5},
        {"rpc": "host:port"}, {"rpc": ["host", "a:0"]},
    ],
)  # fmt: skip
def test_arguments_out_of_range(model: Model, wrong: dict[str, Any]) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        Model.load(model.path, **wrong)
    assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize("prompt", [None, 5, b"text", [], [1, 2], [{"text": "hi"}]])
def test_what_is_no_prompt(model: Model, prompt: Any) -> None:
    with pytest.raises(PlmEdgeError, match="this is no prompt"):
        model.generate(prompt, n_predict=1)


def test_settings_out_of_range(model: Model) -> None:
    with pytest.raises(PlmEdgeError, match="n_predict cannot be -1"):
        model.generate("x", n_predict=-1)
    left_out = model.generate("x", n_predict=2, temp=0, stop=None, schema=None, grammar=None)
    assert left_out.tokens == model.generate("x", n_predict=2, temp=0).tokens


CTRL_C = """
import _thread, sys, threading
from plm_edge import Model
model = Model.load(sys.argv[1], threads=1, ctx=4096)
before = model.generate("abc", n_predict=8, temp=0).tokens
def press(done, total):
    if done > 0:
        _thread.interrupt_main()
for settings in ({"n_predict": None}, {"n_predict": 0, "on_prefill": press}):
    prompt = [5] * 3000 if "on_prefill" in settings else None
    timer = threading.Timer(1.0, _thread.interrupt_main)
    try:
        if prompt is None:
            timer.start()
            while True:
                model.generate("abc", temp=1.0, **settings)
        else:
            model.generate("a" * 3000, **settings)
        print("not interrupted")
    except KeyboardInterrupt:
        print("interrupted")
print(model.generate("abc", n_predict=8, temp=0).tokens == before)
"""


def test_ctrl_c_leaves_a_usable_model(tmp_path: Path) -> None:
    path = plm_gguf.write(tmp_path / "random.gguf", n_ctx=4096)
    done = subprocess.run(
        [sys.executable, "-c", CTRL_C, path], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.stdout.split() == ["interrupted", "interrupted", "True"], done.stderr
