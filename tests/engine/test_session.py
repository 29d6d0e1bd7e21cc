"""Sessions on the real engine: text, stops, figures, errors."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.interrupt import Interrupt
from plm_edge.engine.log import engine_log
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGeneration, LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from testkit import plm_gguf

ONE = Options(threads=1)
GREEDY = Sampling(temp=0)


def generate(
    session: Session, prompt: list[int], n_predict: int | None = None, sampling: Sampling = GREEDY
) -> LocalGeneration:
    return LocalGenerator(session).generate(Request(prompt, n_predict, sampling))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")


@pytest.fixture(scope="module")
def random_model(folder: Path) -> Path:
    return plm_gguf.write(folder / "random.gguf", n_ctx=100_000)


@pytest.fixture(scope="module")
def session(random_model: Path) -> Iterator[Session]:
    with Session.open(random_model, replace(ONE, n_ctx=1024)) as opened:
        yield opened


def test_tokens_are_the_bytes(session: Session) -> None:
    text = "größe\n\t😀"
    assert session.tokenize(text) == [*text.encode()]
    assert session.tokenize("a<|end|>b") == [97, plm_gguf.END, 98]
    assert session.vocabulary.bos_eos == ("<|end|>", "<|end|>")
    assert b"".join(session.vocabulary.piece(t) for t in text.encode()) == text.encode()


def test_every_piece_is_whole_characters(folder: Path) -> None:
    script = "aé€😀".encode()
    model = plm_gguf.write(folder / "utf8.gguf", script=script, endless=False)
    with Session.open(model, ONE) as session:
        generation = generate(session, [1], 50, GREEDY)
        assert list(generation) == ["a", "é", "€", "😀"]
        assert generation.tokens == [*script]
        assert generation.stop_reason == "end"


def test_broken_utf8_is_replaced_as_python_does(session: Session) -> None:
    texts = []
    for seed in range(6):
        noise = Sampling(temp=2, top_k=0, top_p=1, min_p=0, seed=seed)
        generation = generate(session, [1, 2, 3], 60, noise)
        texts.append("".join(generation))
        assert texts[-1] == bytes(generation.tokens).decode("utf-8", errors="replace")
    assert "\ufffd" in "".join(texts)


def test_generations_do_not_see_each_other(session: Session) -> None:
    first = list(generate(session, [1, 2, 3], 20, GREEDY))
    list(generate(session, [9] * 100, 20, GREEDY))
    assert list(generate(session, [1, 2, 3], 20, GREEDY)) == first


def test_a_long_prompt_in_chunks_is_the_same(random_model: Path) -> None:
    # each token after it leads by 0.1: none is a near tie
    prompt = [i * 33 % 256 for i in range(500)]
    texts = []
    for n_ubatch in (7, 64, 512):
        options = replace(ONE, n_ctx=1024, n_ubatch=n_ubatch)
        with Session.open(random_model, options) as session:
            assert session.context.n_batch == n_ubatch
            generation = generate(session, prompt, 16, GREEDY)
            list(generation)
            texts.append(generation.tokens)
    assert texts[0] == texts[1] == texts[2]
    assert len(set(texts[0])) > 1


def test_stats_count_the_engines_time_alone(session: Session) -> None:
    generation = generate(session, [1] * 10, 6, GREEDY)
    started = time.perf_counter()
    for _ in generation:
        time.sleep(0.1)  # a slow reader
    elapsed = time.perf_counter() - started
    stats = generation.stats
    assert len(generation.tokens) == stats.n_generated == 6
    assert stats.ttft_s is not None
    assert 0 < stats.prefill_s <= stats.ttft_s
    assert stats.ttft_s + stats.decode_s < elapsed - 0.5
    assert stats.decode_tps == pytest.approx(5 / stats.decode_s)
    assert stats.prefill_tps == pytest.approx(10 / stats.prefill_s)


@pytest.mark.parametrize("kv", ["f16", "q8_0", "q4_0"])
def test_the_engine_reports_a_latent_cache(random_model: Path, kv: str) -> None:
    with Session.open(random_model, replace(ONE, n_ctx=1024, kv=kv)) as session:
        report = session.kv
        assert report is not None
        row_bytes = {"f16": 64, "q8_0": 34, "q4_0": 18}[kv] * plm_gguf.LATENT_ROW // 32
        assert report.n_bytes == 1024 * plm_gguf.N_LAYERS * row_bytes
        assert report.v_bytes == 0
        assert (report.cells, report.layers, report.type) == (1024, plm_gguf.N_LAYERS, kv)
        generation = generate(session, [1] * 100, 5, GREEDY)
        list(generation)
        # 100 of the prompt and 4 new ones: the last is never computed.
        assert generation.stats.kv_bytes_used == 104 * plm_gguf.N_LAYERS * row_bytes
        assert session.context.compute_bytes > 0


def test_the_cache_is_full_at_the_context_asked_for(random_model: Path) -> None:
    with Session.open(random_model, replace(ONE, n_ctx=100)) as session:
        assert session.n_ctx == 100  # the engine itself pads to 256
        generation = generate(session, [1] * 99, None, GREEDY)
        list(generation)
        assert generation.stop_reason == "context"
        assert len(generation.tokens) == 2
        assert generation.stats.kv_bytes_used == 100 * generation.stats.kv_bytes_per_token
        with pytest.raises(PlmEdgeError, match="100 tokens, the context 100"):
            generate(session, [1] * 100)
        with pytest.raises(PlmEdgeError, match="empty"):
            generate(session, [])


def test_stop_is_heard_between_tokens(random_model: Path) -> None:
    wish = threading.Event()
    with Session.open(random_model, replace(ONE, n_ctx=4096, stop=wish.is_set)) as session:
        generation = generate(session, [1], None, GREEDY)
        for _ in generation:
            if len(generation.tokens) == 5:
                wish.set()
        assert generation.stop_reason == "interrupted"
        assert len(generation.tokens) == 5
        wish.clear()
        assert len(list(generate(session, [1], 3, GREEDY))) > 0  # usable afterwards


def test_ctrl_c_is_heard_within_one_call_of_the_engine(random_model: Path) -> None:
    """One micro-batch of 16,000 tokens: only the abort callback can stop it."""
    n_tokens = 16_000
    with Interrupt() as interrupt:
        options = Options(n_ctx=n_tokens + 256, n_ubatch=n_tokens, threads=1, stop=interrupt)
        with Session.open(random_model, options) as session:
            assert session.context.n_batch == n_tokens
            calls = []
            append = session.context.append

            def counted(tokens: list[int], **options: Any) -> bool:
                calls.append(len(tokens))
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                return append(tokens, **options)

            session.context.append = counted  # type: ignore[method-assign, assignment]
            generation = generate(session, [i % 256 for i in range(n_tokens)], 5, GREEDY)
            assert list(generation) == []
    assert calls == [n_tokens - 1]  # a prompt's last token is computed alone
    assert generation.stop_reason == "interrupted"
    assert generation.stats.kv_bytes_used == 0
    assert interrupt.pressed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_exception_of_the_stop_callback_comes_out(random_model: Path) -> None:
    calls = -10_000  # not while loading

    def stop() -> bool:
        nonlocal calls
        calls += 1
        if calls == 20:  # within a call of the engine
            raise RuntimeError("from the callback")
        return False

    with Session.open(random_model, replace(ONE, n_ctx=1024, stop=stop)) as session:
        calls = 0
        with pytest.raises(RuntimeError, match="from the callback"):
            list(generate(session, [1] * 500, 5, GREEDY))


def test_loading_can_be_stopped(random_model: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Session.open(random_model, replace(ONE, n_ctx=1024, stop=lambda: True))


def test_loading_tells_how_far_it_is(random_model: Path) -> None:
    shares: list[float] = []
    Session.open(random_model, replace(ONE, n_ctx=1024, on_load=shares.append)).close()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_close_twice_and_open_again(random_model: Path) -> None:
    for _ in range(3):
        session = Session.open(random_model, replace(ONE, n_ctx=512))
        session.close()
        session.close()


def test_flash_attention_on_and_off_agree(random_model: Path) -> None:
    tokens = []
    for flash in ("on", "off", "auto"):
        options = replace(ONE, n_ctx=1024, flash_attn=flash)
        with Session.open(random_model, options) as session:
            # each token after it leads by 0.37: none is a near tie
            generation = generate(session, [5, 80, 200, 52] * 20, 12, GREEDY)
            list(generation)
            tokens.append(generation.tokens)
    assert tokens[0] == tokens[1] == tokens[2]


def test_sampling_settings_are_checked() -> None:
    for wrong in (
        Sampling(temp=-0.1), Sampling(temp=float("nan")), Sampling(top_p=0), Sampling(top_p=1.1),
        Sampling(min_p=1), Sampling(min_p=-1), Sampling(top_k=-1), Sampling(seed=2**32 - 1),
    ):  # fmt: skip
        with pytest.raises(PlmEdgeError) as caught:
            wrong.checked()
        assert caught.value.code is ExitCode.USAGE
    assert Sampling(seed=5).checked() == Sampling(seed=5)
    drawn = {Sampling().checked().seed for _ in range(8)}
    assert len(drawn) > 1


def test_the_log_is_silent_and_remembered(
    random_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Session.open(random_model, replace(ONE, n_ctx=512)).close()
    assert capfd.readouterr() == ("", "")
    assert "llama_kv_cache" in engine_log.text
