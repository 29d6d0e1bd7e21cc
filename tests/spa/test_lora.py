"""LoRA in torch: the base's own logits before it is trained, and better ones after."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.engine.options import Options, never
from plm_edge.engine.session import Session
from plm_edge.model import gguf_file
from plm_edge.spa import lora
from plm_edge.spa.reading import Window
from testkit import plm_gguf

TOKENS = [*b"what the base says, without an adapter"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plm_gguf.write(tmp_path_factory.mktemp("lora") / "llama.gguf", arch="llama")


def test_untrained_it_is_the_base(llama: Path) -> None:
    model = lora.Llama(gguf_file.read(llama), 2, 0)
    found = model.logits(TOKENS).detach().numpy()
    options = Options(n_ctx=64, threads=1, kv="f32", max_outputs=len(TOKENS))
    with Session.open(llama, options) as session:
        batch = session.context.batch()
        batch.extend(TOKENS, 0, wanted="all")
        session.context.decode(batch)
        expected = session.context.logits().copy()
    # bfloat16 keeps 8 bits of a value
    error = np.square(found - expected).sum() / np.square(expected - expected.mean()).sum()
    assert error < 1e-3


def test_it_learns(llama: Path) -> None:
    header = gguf_file.read(llama)
    model = lora.Llama(header, 4, 0)
    stream = np.array(TOKENS, np.int32)
    window = Window(0, tuple(TOKENS[:-1]), 1, len(TOKENS) - 1)
    ids = np.tile(np.arange(64, dtype=np.int32), (window.judged, 1))
    before, _ = lora.judge(model, [window], stream, ids, NoProgress())
    settings = lora.Settings(epochs=3, rate=1e-2)
    done = lora.train(model, [window] * 4, [window], stream, settings, NoProgress(), never)
    after, top = lora.judge(model, [window], stream, ids, NoProgress())
    assert done == lora.Trained(epochs=3, steps=12, best_epoch=3)
    assert after.mean() > before.mean() + 0.5
    assert top.shape == (window.judged, 64)


def test_an_interrupted_training_ends_as_one_that_was_not(llama: Path, tmp_path: Path) -> None:
    header, stream = gguf_file.read(llama), np.array(TOKENS, np.int32)
    texts = [Window(0, tuple(TOKENS[:-n]), 1, len(TOKENS) - n) for n in (1, 9, 17)]
    settings = lora.Settings(epochs=3, rate=3e-3)
    whole, parts = lora.Llama(header, 2, 0), lora.Llama(header, 2, 0)
    lora.train(whole, texts, texts[:1], stream, settings, NoProgress(), never)
    asked: list[int] = []

    def stop() -> bool:  # in the second pass
        asked.append(1)
        return len(asked) == 5

    kept = tmp_path / "kept.pt"
    with pytest.raises(KeyboardInterrupt):
        lora.train(parts, texts, texts[:1], stream, settings, NoProgress(), stop, kept)
    again = lora.Llama(header, 2, 0)
    done = lora.train(again, texts, texts[:1], stream, settings, NoProgress(), never, kept)
    assert done.epochs == 3
    found, expected = (model.logits(TOKENS).detach().numpy() for model in (again, whole))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "harm", ["empty", "cut short", "torn", "another object", "no object", "other shapes"]
)
def test_a_state_that_is_damaged_is_said_in_words(llama: Path, tmp_path: Path, harm: str) -> None:
    header, stream = gguf_file.read(llama), np.array(TOKENS, np.int32)
    text = [Window(0, tuple(TOKENS[:-1]), 1, len(TOKENS) - 1)]
    kept, settings = tmp_path / "kept.pt", lora.Settings(epochs=1)

    def train(rank: int) -> None:
        model = lora.Llama(header, rank, 0)
        lora.train(model, text, text, stream, settings, NoProgress(), never, kept)

    train(1)
    whole = kept.read_bytes()
    if harm == "empty":
        kept.write_bytes(b"")
    elif harm == "cut short":
        kept.write_bytes(whole[: len(whole) // 2])
    elif harm == "torn":
        kept.write_bytes(b"x" * len(whole))
    elif harm == "another object":
        torch.save([1, 2], kept)
    elif harm == "no object":
        kept.write_bytes(pickle.dumps(Path("x"), 2))
    with pytest.raises(PlmEdgeError, match="cannot go on") as found:
        train(2 if harm == "other shapes" else 1)
    assert "the file is damaged: " in found.value.why
    assert "delete it" in found.value.fix
    kept.unlink()
    train(1)


def test_its_size(llama: Path) -> None:
    header = gguf_file.read(llama)
    wanted = lora.Llama(header, 3, 0).size
    assert lora.rank_of(header, wanted) == 3


def test_an_architecture_that_it_does_not_know(tiny_gguf: Path) -> None:
    with pytest.raises(PlmEdgeError, match="LoRA cannot be trained"):
        lora.Llama(gguf_file.read(tiny_gguf), 1, 0)
