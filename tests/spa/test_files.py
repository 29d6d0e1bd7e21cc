"""A plugin's file may be half a copy, or built to do harm: it is refused when it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.engine.options import Options
from plm_edge.spa import codec as codecs
from plm_edge.spa import container, lora_answers, making, mixture, reading, side, texts
from plm_edge.spa import plugin as plugins
from plm_edge.spa.choosing import PluginChooser
from plm_edge.spa.codec import Codec
from plm_edge.spa.frame import Rows, join
from plm_edge.spa.mixture import Gates
from plm_edge.spa.nearest import Places
from plm_edge.spa.plugin import Plugin, Vocabulary
from plm_edge.spa.training import Head, Settings, Trainer
from tests.spa.arithmetic import HASH, Arithmetic, codec, plugin


def test_a_whole_one_is_read_and_decides(tmp_path: Path) -> None:
    path = tmp_path / "plugin.gguf"
    plugin().write(path)
    base = Arithmetic()
    base.cache[0] = []
    row, _ = base.read([(1, 0, 0)])
    assert 0 <= PluginChooser(plugins.read(path)).choose(row, 1, [0, 1, 2], 1) < 300


def places(made: Plugin, **parts: Any) -> Plugin:
    """A plugin with other places."""
    return replace(made, places=replace(made.places, **parts))


def tokens(made: Plugin, **changes: Any) -> Plugin:
    return replace(made, vocabulary=Vocabulary(**{**vars(made.vocabulary), **changes}))


@pytest.mark.parametrize(
    "harm",
    [
        lambda made: replace(made, matrix=made.matrix[:-1]),
        lambda made: replace(made, matrix=made.matrix.astype(np.float16)),
        lambda made: replace(made, row_scales=made.row_scales[:5]),
        lambda made: replace(made, stream=np.array([1, -1], np.int32)),
        lambda made: replace(made, stream=np.array([1, 300], np.int32)),
        lambda made: replace(made, stream=np.ones((2, 2), np.int32)),
        lambda made: replace(made, weights=replace(made.weights, p=made.weights.p[:3])),
        lambda made: replace(made, gates=Gates(made.gates.weights[:, :3])),
        lambda made: places(made, codes=made.places.codes[:, 1:]),
        lambda made: places(made, scales=made.places.scales[1:]),
        lambda made: places(made, tokens=made.places.tokens + np.int32(300)),
        lambda made: replace(made, places=Places(*(a[:0] for a in vars(made.places).values()))),
        lambda made: replace(made, base="no hash"),
        lambda made: replace(made, codec=replace(made.codec, layers=(1, 2))),
        lambda made: replace(made, codec=replace(made.codec, means=made.codec.means[:, 1:])),
        lambda made: replace(made, codec=replace(made.codec, means=made.codec.means[0])),
        lambda made: tokens(made, ends=made.vocabulary.ends + np.int32(1)),
        lambda made: tokens(made, ends=made.vocabulary.ends[::-1].copy()),
        lambda made: tokens(made, ends=made.vocabulary.ends.reshape(2, -1)),
        lambda made: tokens(made, stops=np.array([[1, 2]], np.int32)),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(tmp_path: Path, harm: Callable[[Plugin], Plugin]) -> None:
    path = tmp_path / "plugin.gguf"
    harm(plugin()).write(path)
    with pytest.raises(PlmEdgeError, match="is damaged"):
        plugins.read(path)


def test_half_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "plugin.gguf"
    plugin().write(path)
    raw = path.read_bytes()
    for share in range(8):
        path.write_bytes(raw[: len(raw) * share // 8])
        with pytest.raises(PlmEdgeError):
            plugins.read(path)


def test_keys_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "codec.gguf"
    own = codec()
    given = {"codec.means": own.means, "codec.bases": own.bases}
    keys: dict[str, str | list[int]] = {
        "base.sha256": HASH, "codec.sha256": own.sha256(), "layers": "many",
    }  # fmt: skip
    container.write(path, "spa-codec", keys, given, 0o600)
    with pytest.raises(PlmEdgeError, match="is damaged"):
        codecs.read(path)


def test_a_codec_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "codec.gguf"
    replace(codec(), means=np.zeros((3, 8), np.float16)).write(path, HASH)
    with pytest.raises(PlmEdgeError, match="is damaged"):
        codecs.read(path)


def test_what_was_kept_and_is_damaged_is_made_again(tmp_path: Path) -> None:
    """A file of a reading, and one of a training: half of one changes nothing."""
    base = Arithmetic()
    base.cache[0] = []
    rows = [base.read([(token, token, 0)])[0] for token in range(8)]
    logs = np.full(8, -2, np.float32)
    path = tmp_path / "kept.npz"
    reading._keep(path, join(rows), logs)
    found = reading._load(path)
    assert found is not None
    assert np.array_equal(found[1], logs)
    raw = path.read_bytes()
    text = reading.Reading(
        np.arange(8, dtype=np.int32), found[0], np.arange(8), logs, np.zeros(8, np.int32), ()
    )
    head = Head(np.unique(found[0].ids), np.ones((len(np.unique(found[0].ids)), 8), np.float16))
    first = Trainer(text, text, head, Settings(epochs=1))
    first.run(NoProgress(), tmp_path / "training.npz")
    state = (tmp_path / "training.npz").read_bytes()
    for share in (0, 1, 3, 7):
        path.write_bytes(raw[: len(raw) * share // 8])
        assert reading._load(path) is None
        damaged = tmp_path / "damaged.npz"
        damaged.write_bytes(state[: len(state) * share // 8])
        again = Trainer(text, text, head, Settings(epochs=1))
        again.run(NoProgress(), damaged)
        assert again.best == first.best


def test_texts_of_which_nothing_is_here_are_not_held_back() -> None:
    assert texts.held_back([0, 100, 100, 100], 0.2, 0) == set()
    assert texts.held_back([0, *[100] * 5], 0.2, 0).isdisjoint({0})


def some_reading(of: Codec, stream: Any) -> reading.Reading:
    """What a base said of a stream, after each token but the first."""
    count = len(stream) - 1
    codes = np.ones((count, of.n_states, of.width), np.int8)
    none: Any = np.zeros((count, 1))
    rows = Rows(codes, np.ones((count, of.n_states), np.float16), none, none, none)
    numbers: Any = np.arange(count)
    return reading.Reading(stream, rows, numbers + 1, none[:, 0], numbers * 0, ())


def test_lora_reads_whole_windows() -> None:
    """Of few texts parts of windows are held back; then it would learn what it is judged by."""
    window = reading.Window(0, (1, 2, 3, 4), 0, 4)
    some: Any = np.zeros((4, 1))
    rows = Rows(some, some, some, some, some)
    whole = reading.Reading(
        np.arange(4, dtype=np.int32), rows, np.arange(4), np.zeros(4, np.float32),
        np.zeros(4, np.int32), (window,),
    )  # fmt: skip
    text, rest = whole.take(np.arange(4) < 2), whole.take(np.arange(4) >= 2)
    with pytest.raises(PlmEdgeError, match="so few texts"):
        lora_answers.require_whole_windows(text, rest)
    lora_answers.require_whole_windows(whole, whole.take(np.zeros(4, bool)))


def test_a_codec_that_cannot_be_written_costs_no_reading(tmp_path: Path) -> None:
    """The base is not even looked for."""
    with pytest.raises(PlmEdgeError, match="cannot be written"):
        making.codec_of(
            tmp_path / "base.gguf", HASH, tmp_path / "no" / "codec.gguf", Options(), NoProgress()
        )


def test_a_plugin_is_whole_before_its_gates_are_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = plugin()
    monkeypatch.setattr("plm_edge.spa.head.blocks", lambda _: [(0, np.ones((300, 8), np.float32))])
    given: Any = SimpleNamespace(
        header=None, base_hash=HASH, codec=own.codec, vocabulary=own.vocabulary,
        personal=some_reading(own.codec, own.stream),
    )  # fmt: skip
    made = making.assemble(given, side.initial(2, 4, 8, 0))
    made.write(tmp_path / "plugin.gguf")
    again = plugins.read(tmp_path / "plugin.gguf")
    seen = np.zeros((1, mixture.N_FEATURES), np.float32)
    seen[0, 0] = 1
    assert again.gates.of(seen).max() < 1e-9


def test_a_plugin_for_plm_1_8b_has_at_most_10_mb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its shapes, with 20,000 tokens in the memory and a vocabulary as large as its own."""
    n_vocab, n_embd, n_tokens = 151_936, 2048, 20_000
    rows = np.ones((1024, n_embd), np.float32)
    counts = [min(1024, n_vocab - start) for start in range(0, n_vocab, 1024)]
    monkeypatch.setattr(
        "plm_edge.spa.head.blocks", lambda _: [(0, rows[:count]) for count in counts]
    )
    lengths = np.full(n_vocab, 7)  # Qwen's tokens have 6.4 bytes on average
    public = Codec(
        tuple(range(7)), np.zeros((8, n_embd), np.float16), np.zeros((8, 64, n_embd), np.float16)
    )
    given: Any = SimpleNamespace(
        header=None, base_hash=HASH, codec=public,
        vocabulary=Vocabulary(
            np.zeros(lengths.sum(), np.uint8), np.cumsum(lengths, dtype=np.int32),
            np.array([0], np.int32),
        ),
        personal=some_reading(public, np.arange(n_tokens, dtype=np.int32)),
    )  # fmt: skip
    made = making.assemble(given, side.initial(8, 64, n_embd, 0))
    made.write(tmp_path / "plugin.gguf")
    assert 8e6 < (tmp_path / "plugin.gguf").stat().st_size <= 10e6
    assert np.array_equal(plugins.read(tmp_path / "plugin.gguf").stream, made.stream)
