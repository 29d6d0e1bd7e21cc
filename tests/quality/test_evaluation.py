"""Perplexity and divergence: against llama.cpp's own tool, torch, and an interrupted run."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.quality import kept, predictions
from plm_edge.quality.evaluation import Settings, evaluate
from testkit import plm_gguf
from testkit.checkout import Upstream
from tests.quality.conftest import ONE_THREAD

SMALL = Settings(n_ctx=32, options=ONE_THREAD)
WORDS = "".join(map(chr, range(32, 127))) * 2 + "!!"  # 192 tokens of a byte each: 6 chunks


def upstream_says(upstream: Upstream, last: str, *arguments: str | Path) -> str:
    """What llama-perplexity prints, stdout and stderr together. It may lose what it logs at its
    end (common/log.cpp says so), on a busy machine above all: until `last` is in it."""
    command = [str(upstream.bin / "llama-perplexity"), "-t", "1", "-fa", "on", *map(str, arguments)]
    for _ in range(10):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        printed = done.stdout + done.stderr
        if last in printed:
            return printed
    raise AssertionError(f"no {last!r} in:\n{printed}")


def figure(name: str, printed: str) -> tuple[float, float]:
    """A figure of llama-perplexity's, and what stands after ±."""
    found = re.search(rf"{name}\s*[:=] *(-?[\d.]+) *(?:\+/-|±) *([\d.]+)", printed)
    assert found, printed
    return float(found[1]), float(found[2])


def alone(name: str, printed: str) -> float:
    """A figure of llama-perplexity's that has no error bar."""
    found = re.search(rf"{name}: *(-?[\d.]+)", printed)
    assert found, printed
    return float(found[1])


@pytest.mark.slow
def test_perplexity_is_that_of_llama_perplexity(
    upstream: Upstream, tiny_stock: Path, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(words, encoding="utf-8")
    printed = upstream_says(
        upstream, "Final", "-m", tiny_stock, "-f", path, "-c", "256", "-b", "256"
    )
    settings = Settings(n_ctx=256, options=Options(kv="f16", threads=1, flash_attn="on"))
    found = evaluate(tiny_stock, words.removesuffix("\n"), None, settings)
    value, error = figure("PPL", printed)
    assert found.perplexity.value.value == pytest.approx(value, rel=1e-4)
    assert found.perplexity.value.error == pytest.approx(error, rel=1e-3)
    assert f"[{found.chunks}]" in printed


@pytest.mark.slow
def test_divergence_is_that_of_llama_perplexity(
    upstream: Upstream, tiny_stock: Path, tiny_f32: Path, words: str, tmp_path: Path
) -> None:
    """Its reference is rounded to 16 bits, and less likely than e^-16 counts as nothing."""
    path, base = tmp_path / "text.txt", tmp_path / "base"
    path.write_text(words, encoding="utf-8")
    common = ["-f", str(path), "-c", "256", "-b", "256", "-ctk", "f32", "-ctv", "f32"]
    common += ["--kl-divergence-base", str(base)]
    upstream_says(upstream, "", "-m", tiny_f32, *common)
    printed = upstream_says(upstream, "Same top p:", "-m", tiny_stock, *common, "--kl-divergence")
    settings = Settings(n_ctx=256, options=replace(ONE_THREAD, flash_attn="on"))
    comparison = evaluate(tiny_stock, words, tiny_f32, settings).comparison
    assert comparison is not None
    for name, found in (
        ("Mean    KLD", comparison.mean),
        (r"Mean ln\(PPL\(Q\)/PPL\(base\)\)", comparison.ln_ratio),
        (r"Mean PPL\(base\)", comparison.reference.value),
    ):
        value, error = figure(name, printed)
        assert found.value == pytest.approx(value, rel=0.01), name
        assert found.error == pytest.approx(error, rel=0.02), name
    for name, tail in (
        ("Median  KLD", comparison.median),
        ("90.0%   KLD", comparison.p90),
        ("99.0%   KLD", comparison.p99),
        ("Maximum KLD", comparison.max),
    ):
        assert tail == pytest.approx(alone(name, printed), rel=0.02), name
    for name, percent in (("Mean    Δp", comparison.p_change), ("RMS Δp", comparison.p_change_rms)):
        assert 100 * percent.value == pytest.approx(figure(name, printed)[0], abs=0.02), name
    assert 100 * comparison.same_top.value == pytest.approx(
        figure("Same top p", printed)[0], abs=0.3
    )


@pytest.mark.slow
def test_a_real_chat_model_agrees_with_llama_perplexity(
    upstream: Upstream, chat_gguf: Path, tmp_path: Path
) -> None:
    words = " ".join(f"The {n}th house of the street has {n % 7} windows." for n in range(24))
    path = tmp_path / "text.txt"
    path.write_text(words, encoding="utf-8")
    printed = upstream_says(
        upstream, "Final", "-m", chat_gguf, "-f", path, "-c", "128", "-b", "128"
    )
    settings = Settings(n_ctx=128, options=Options(kv="f16", threads=1, flash_attn="on"))
    found = evaluate(chat_gguf, words, None, settings)
    value, error = figure("PPL", printed)
    assert found.perplexity.value.value == pytest.approx(value, rel=1e-3)
    assert found.perplexity.value.error == pytest.approx(error, rel=1e-2)


@pytest.mark.slow
def test_f32_is_the_checkpoint_in_torch(tiny_f32: Path, tiny_checkpoint: Path, words: str) -> None:
    settings = Settings(n_ctx=128, chunks=3, options=ONE_THREAD)
    found = evaluate(tiny_f32, words, tiny_checkpoint, settings)
    assert found.comparison is not None
    assert found.comparison.max < 1e-5
    assert found.comparison.same_top.value == 1
    assert abs(found.comparison.ln_ratio.value) < 1e-4


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two models with the same tokens: random weights, and one that follows a script."""
    return plm_gguf.write(tmp_path / "a.gguf"), plm_gguf.write(tmp_path / "b.gguf", script=b"abc")


def test_a_reference_is_kept_for_the_next_model(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, reference = pair
    first = evaluate(model, WORDS, reference, SMALL)
    assert (first.kept, first.chunks) == (0, 6)
    assert first.comparison is not None
    assert first.comparison.mean.value > 1
    calls = counting(monkeypatch)
    second = evaluate(reference, WORDS, reference, SMALL)
    assert second.kept == 6
    assert len(calls) == 6  # those of the model alone
    assert second.comparison is not None
    assert second.comparison.max == 0


@pytest.mark.parametrize("limit", [None, 0])
def test_an_interrupted_run_ends_at_the_same_figure(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    model, reference = pair
    settings = replace(SMALL, limit=limit)
    whole = evaluate(model, WORDS, reference, replace(settings, limit=0))
    assert whole.resumed == 0

    class Stop(Progress):
        """Ctrl-C after the last but one chunk of the model."""

        def advance(self, count: int) -> None:
            super().advance(count)
            if self.done == self.total - 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, WORDS, reference, settings, Stop())
    calls = counting(monkeypatch)
    again = evaluate(model, WORDS, reference, settings)
    assert again.resumed == 5
    assert len(calls) == (1 if limit is None else 2)
    assert (again.perplexity, again.comparison) == (whole.perplexity, whole.comparison)
    assert not any((kept.folder() / "runs").iterdir())


def test_ctrl_c_stops_within_a_chunk(pair: tuple[Path, Path]) -> None:
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 60  # after some nodes of a graph

    options = replace(ONE_THREAD, stop=stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(pair[0], WORDS, None, replace(SMALL, options=options))


class Progress:
    """What was told of the progress."""

    total = done = 0

    def begin(self, total: int) -> None:
        self.total = total

    def advance(self, count: int) -> None:
        self.done += count


def test_progress_ends_at_its_total(pair: tuple[Path, Path]) -> None:
    told = Progress()
    evaluate(pair[0], WORDS, pair[1], SMALL, told)
    assert told.done == told.total == 12


def test_few_rows_at_once_are_the_same_figure(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(pair[0], WORDS, pair[1], replace(SMALL, limit=0))
    monkeypatch.setattr(predictions, "ROWS_BYTES", 4 * 257 * 5)
    monkeypatch.setattr(predictions, "BLOCK_BYTES", 4 * 257 * 2)
    few = evaluate(pair[0], WORDS, pair[1], replace(SMALL, limit=0))
    assert few.perplexity.nats.value == pytest.approx(whole.perplexity.nats.value, rel=1e-5)
    assert few.comparison is not None
    assert whole.comparison is not None
    assert few.comparison.mean.value == pytest.approx(whole.comparison.mean.value, rel=1e-5)


def counting(patch: pytest.MonkeyPatch) -> list[int]:
    """The chunks that an engine computes from now on."""
    calls: list[int] = []
    real = predictions.log_probabilities

    def counted(session, chunks, chunk):  # type: ignore[no-untyped-def]
        calls.append(chunk)
        return real(session, chunks, chunk)

    patch.setattr(predictions, "log_probabilities", counted)
    return calls


def test_the_oldest_references_make_room(tmp_path: Path) -> None:
    rows = [np.zeros((2, 8), np.float32)]
    size = 2 * 8 * 4
    for number, key in enumerate(("a", "b", "c")):
        one = kept.KeptPredictions(key, 2, 8, 2 * size)
        assert len([*one.keep(0, rows)]) == 1
        assert one.has(0)
        # a file's time is told to some milliseconds
        os.utime(kept.folder() / "references" / key, (number, number))
    assert not kept.KeptPredictions("a", 2, 8, 2 * size).has(0)
    assert kept.KeptPredictions("b", 2, 8, 2 * size).has(0)
    few = kept.KeptPredictions("d", 2, 8, size - 1)
    assert len([*few.keep(0, rows)]) == 1
    assert not few.has(0)
    assert kept.KeptPredictions("b", 2, 8, 2 * size).has(0)


def test_a_chunk_that_was_left_half_is_not_there(tmp_path: Path) -> None:
    whole = kept.KeptPredictions("a", 4, 8, 1 << 20)
    blocks = whole.keep(0, [np.zeros((2, 8), np.float32)] * 2)
    next(blocks)
    del blocks
    assert not whole.has(0)
    assert [*(kept.folder() / "references/a").iterdir()] == []


class TestOtherVocabularies:
    """What cannot be compared is refused before anything is computed."""

    def refused(self, model: Path, reference: Path) -> PlmEdgeError:
        with pytest.raises(PlmEdgeError) as caught:
            evaluate(model, "some text " * 50, reference, Settings(n_ctx=8))
        assert "cannot be compared" in caught.value.what
        return caught.value

    def test_another_size(self, tmp_path: Path, tiny_checkpoint: Path) -> None:
        model = plm_gguf.write(tmp_path / "model.gguf")
        error = self.refused(model, tiny_checkpoint)
        assert "differ in size" in error.why
        assert "4,096" in error.why

    def test_another_tokenizer(self, tmp_path: Path) -> None:
        model, other = plm_gguf.write(tmp_path / "a.gguf"), tmp_path / "b.gguf"
        # a string of length 1 in the list of tokens
        other.write_bytes(
            model.read_bytes().replace(b"\1\0\0\0\0\0\0\0!", b"\1\0\0\0\0\0\0\0\x7f", 1)
        )
        assert "token 33 is '!' in one" in self.refused(model, other).why
