"""A plugin of a whole, tiny model: what it learns, what it is stored as, and how it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.engine.options import Options, never
from plm_edge.engine.session import Session
from plm_edge.spa import codec, making, plugin, texts
from plm_edge.spa.base import Base
from plm_edge.spa.making import Made, Texts
from plm_edge.spa.reading import Reading, folder
from plm_edge.spa.training import Head, Settings, Trainer
from tests.spa.conftest import OPTIONS, PUBLIC, WORDS


def test_the_personal_text_gets_likelier_and_the_public_one_stays(
    made: Made, read_texts: Texts
) -> None:
    assert made.mixed < 0.5 * made.base
    seen, parts = made.plugin.judge(read_texts.public)
    mixed = making.perplexity(parts.mixed(made.plugin.gates.of(seen)))
    assert mixed < 1.05 * making.perplexity(parts.base)


def test_the_side_learns_without_the_memory(made: Made, read_texts: Texts) -> None:
    held = read_texts.personal.take(making.hold_back(read_texts.personal, 0))
    _, parts = made.plugin.judge(held)
    assert making.perplexity(parts.side) < 0.8 * making.perplexity(parts.base)


def test_the_base_is_read_as_the_engine_computes_it(read_texts: Texts, tiny_gguf: Path) -> None:
    own = read_texts.personal
    # Batches as large as those that were read: the engine rounds alike.
    options = Options(n_ctx=512, threads=1, kv="f32", max_outputs=64, n_ubatch=64)
    with Session.open(tiny_gguf, options) as session:
        batch = session.context.batch()
        batch.extend(own.windows[0].given[:64], 0, wanted="all")
        session.context.decode(batch)
        logits = session.context.logits().astype(np.float64)
    norms = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    logs = logits - norms[:, None]
    expected = [log[target] for log, target in zip(logs[:20], own.targets, strict=False)]
    assert np.allclose(own.base[:20], expected, atol=5e-3)
    for row in range(20):
        assert own.rows.ids[row, 0] == logs[row].argmax()
        known = own.rows.log_probabilities()[row]
        assert np.allclose(known, logs[row][own.rows.ids[row]], atol=2e-2)


def test_a_plugin_is_what_was_written(made: Made, read_texts: Texts, tmp_path: Path) -> None:
    path = tmp_path / "plugin.gguf"
    made.plugin.write(path)
    assert path.stat().st_mode & 0o077 == 0
    again = plugin.read(path)
    some = read_texts.public
    for found, expected in zip(again.judge(some), made.plugin.judge(some), strict=True):
        parts = [vars(p).values() if hasattr(p, "escape") else [p] for p in (found, expected)]
        for one, other in zip(*parts, strict=True):
            assert np.array_equal(one, other)
    vocabulary = again.vocabulary
    with Session.open(read_texts.header, Options(n_ctx=64, threads=1)) as session:
        for token in (0, 1, 77, session.vocabulary.n_tokens - 1):
            assert vocabulary.piece(token) == session.vocabulary.piece(token)


def test_a_damaged_or_foreign_file_is_refused(made: Made, tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(PlmEdgeError, match="is no SPA plugin"):
        plugin.read(tiny_gguf)
    path = tmp_path / "plugin.gguf"
    broken = replace(made.plugin.codec, means=made.plugin.codec.means + np.float16(1))
    made.plugin.write(path)
    raw = path.read_bytes()
    old = made.plugin.codec.means.tobytes()
    assert raw.count(old) == 1
    path.write_bytes(raw.replace(old, broken.means.tobytes()))
    with pytest.raises(PlmEdgeError, match="codec is not the one"):
        plugin.read(path)


def test_another_bases_codec_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    found, _ = codec.read(making.codec_path(tiny_gguf))
    path = tmp_path / "other.gguf"
    found.write(path, "0" * 64)
    with pytest.raises(PlmEdgeError, match="another base's codec"):
        making.codec_of(tiny_gguf, "1" * 64, path, OPTIONS, NoProgress())


def test_a_codec_is_built_once_or_taken_as_it_came(
    read_texts: Texts, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the base, or from elsewhere: nothing is computed, and its hash is seen to."""
    shipped = tmp_path / "shipped.gguf"
    shipped.write_bytes(making.codec_path(tiny_gguf).read_bytes())
    monkeypatch.setattr(Base, "__init__", lambda *_, **__: pytest.fail("computed again"))
    given = tiny_gguf, read_texts.base_hash
    for path in (None, shipped):
        found = making.codec_of(*given, path, OPTIONS, NoProgress())
        assert found.sha256() == read_texts.codec.sha256()
    raw, part = bytearray(shipped.read_bytes()), read_texts.codec.bases.tobytes()[:64]
    raw[raw.index(part)] ^= 1
    shipped.write_bytes(raw)
    with pytest.raises(PlmEdgeError, match="is damaged"):
        making.codec_of(*given, shipped, OPTIONS, NoProgress())


def test_the_codec_keeps_what_states_differ_in(read_texts: Texts, tiny_gguf: Path) -> None:
    """Of public states most of the variance is in the codes, each value of about one size."""
    assert read_texts.codec.sha256() == codec.read(making.codec_path(tiny_gguf))[0].sha256()
    values = read_texts.public.rows.states()
    assert 0.5 < float(values.std()) < 2
    assert read_texts.public.rows.codes.dtype == np.int8
    assert np.abs(read_texts.public.rows.codes).max() == 127


def test_a_reading_goes_on_where_it_was(
    read_texts: Texts, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is not computed again, and is the same."""
    bars = making.Bars(NoProgress(), NoProgress())
    with monkeypatch.context() as patch:
        patch.setattr(Base, "compute", lambda *_: pytest.fail("computed again"))
        again = making.read_texts(tiny_gguf, WORDS, None, OPTIONS, bars, public=PUBLIC)
    assert np.array_equal(again.personal.base, read_texts.personal.base)
    assert any((folder() / "readings").glob("*.npz"))


def _trainer(given: Texts, settings: Settings) -> Trainer:
    own: Reading = given.personal
    held = making.hold_back(own, 0)
    output = Head.of(given.header, np.unique(own.rows.ids))
    return Trainer(own.take(~held), own.take(held), output, settings)


def test_an_interrupted_training_ends_as_one_that_was_not(
    read_texts: Texts, tmp_path: Path
) -> None:
    settings = Settings(epochs=3, batch=64)
    whole = _trainer(read_texts, settings)
    whole.run(NoProgress())
    first, kept = _trainer(read_texts, settings), tmp_path / "kept.npz"

    def stop() -> bool:
        return first.epoch == 2

    with pytest.raises(KeyboardInterrupt):
        first.run(NoProgress(), kept, stop)
    second = _trainer(read_texts, settings)
    second.run(NoProgress(), kept)
    assert second.epoch == 3
    for name, array in whole.weights.arrays().items():
        assert np.array_equal(array, second.weights.arrays()[name]), name


def test_gradients_are_the_differences(read_texts: Texts) -> None:
    trainer = _trainer(read_texts, Settings())
    rng = np.random.default_rng(5)
    for array in trainer.weights.arrays().values():
        array[...] = rng.normal(0, 0.2, array.shape)
    part = trainer._text.take(np.arange(len(trainer._text)) < 24)
    grads = trainer.gradients(part.rows, part.targets, part.rows.states())
    for name, array in trainer.weights.arrays().items():
        way = rng.normal(0, 1, array.shape).astype(np.float32)
        way /= np.float32(np.linalg.norm(way))
        before, step = array.copy(), np.float32(3e-3)
        losses = []
        for sign in (1, -1):
            array[...] = before + sign * step * way
            losses.append(trainer.judge(trainer.weights, part))
        array[...] = before
        expected = (losses[0] - losses[1]) / (2 * float(step))
        noise = np.spacing(np.float32(losses[0])) / (2 * float(step))  # a loss is rounded to f32
        found = float((grads.arrays()[name] * way).sum())
        assert found == pytest.approx(expected, 0.05, 3 * noise), name


def test_no_text(tmp_path: Path) -> None:
    with pytest.raises(PlmEdgeError, match="there is no text"):
        texts.personal(tmp_path)


def test_too_little_text(read_texts: Texts) -> None:
    nothing = read_texts.personal.take(np.arange(len(read_texts.personal)) < 1)
    with pytest.raises(PlmEdgeError, match="too little text"):
        making.make(replace(read_texts, personal=nothing), Settings(), NoProgress(), never)
