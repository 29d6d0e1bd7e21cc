"""The table of `spa eval`, and the commands around it, on tiny-plm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.cli import main
from plm_edge.engine.options import never
from plm_edge.spa import evaluation, making, mixture, plugin, texts
from plm_edge.spa.making import Texts
from plm_edge.spa.memory import BREAK
from plm_edge.spa.mixture import Likelihoods
from plm_edge.spa.training import Settings
from tests.spa.conftest import WORDS


@pytest.fixture(scope="module")
def figures(read_texts: Texts) -> evaluation.Figures:
    settings = Settings(epochs=3, batch=64, rate=3e-3)
    return evaluation.evaluate(
        read_texts, read_texts.public, settings, 2, lambda _: NoProgress(), never,
        replace_logits=True,
    )  # fmt: skip


def test_the_parts_are_in_order(figures: evaluation.Figures) -> None:
    mean = {row.name: float(np.mean(row.personal)) for row in figures.rows}
    assert mean["side, soft gate"] < mean["base"]
    assert mean["both memories alone, gate"] < mean["base"]
    assert mean["side and memories"] < mean["side, soft gate"]
    assert {len(row.personal) for row in figures.rows} == {2}
    base = next(row for row in figures.rows if row.name == "base")
    assert base.spread(base.personal) == 0
    assert "replacing, as in the paper" in mean


def test_nothing_that_is_judged_was_learned(read_texts: Texts) -> None:
    """No text is both; a memory of the others has none of its sequences of four tokens."""
    own = read_texts.personal
    held = own.take(making.hold_back(own, 0))
    memories = making.without(own, held, read_texts.codec)
    memory = memories.grams
    kept = set(own.texts.tolist()) - set(held.texts.tolist())
    assert kept
    assert not set(held.texts.tolist()) & kept
    assert (memory.stream[held.places] == BREAK).all()
    assert (memory.stream == own.stream).sum() >= len(own) - len(held)


def test_too_few_texts(read_texts: Texts) -> None:
    one = read_texts.personal.take(read_texts.personal.texts == 0)
    few = Texts(**{**vars(read_texts), "personal": one})
    with pytest.raises(PlmEdgeError, match="too few texts"):
        evaluation.evaluate(few, one, Settings(), 1, lambda _: NoProgress(), never)


def test_gates_find_who_is_right() -> None:
    """Rows that show which of two is right: the gates learn to follow."""
    rng = np.random.default_rng(1)
    right = rng.random(400) < 0.5
    seen = np.stack([np.ones(400), right], 1).astype(np.float32)
    ones = np.ones(400, np.float32)
    base = np.where(right, 0.01, 0.5).astype(np.float32)
    found = Likelihoods(base, np.float32(0.51) - base, 0 * ones, ones, 0 * ones)
    gates = mixture.fit([(seen, found)])
    g, _, v = gates.of(seen)
    assert v.max() < 0.05
    assert g[right].min() > 0.9
    assert g[~right].max() < 0.1
    assert making.perplexity(found.mixed(gates.of(seen))) < 2.3


@pytest.mark.full
def test_commands(tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, words in enumerate(WORDS):
        (folder / f"{number}.txt").write_text(words, encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    out = tmp_path / "plugin.gguf"
    command = ["spa", "train", "--base", str(tiny_gguf), "--text", str(folder), "--out", str(out)]
    # The codec is there, and what was read is kept: only public texts are read now.
    assert main([*command, "--epochs", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "plm-edge/spa-train/1"
    assert said["texts"] == len(WORDS)
    assert said["held_back_mixed"] < said["held_back_base"]
    made = plugin.read(out)
    assert said["size"] == out.stat().st_size
    assert made.memory.recall(made.stream[:3].tolist()).order == 3
    assert main(["spa", "codec", "--base", str(tiny_gguf), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == made.codec.sha256()
    assert main([*command[:-1], str(tiny_gguf), "--json"]) != 0
    assert "it is the base" in capsys.readouterr().err


def test_public_and_general_texts_share_nothing() -> None:
    public, general = texts.public(), texts.general()
    assert not set(public) & set(general)
    assert len("".join(general)) > 15_000
