"""Which neurons are zero: against torch, the kernel's own counters, and sums by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plm_edge.base.progress import NoProgress
from plm_edge.bench.render import sparsity as pictures
from plm_edge.converters.convert import convert
from plm_edge.engine.session import Session
from plm_edge.engine.sparsity import zero_share
from plm_edge.quality import calibration, kept, sparsity
from plm_edge.quality.sums import Reading
from testkit import plm_gguf, reference
from tests.quality.conftest import ONE_THREAD


def test_counts_by_hand() -> None:
    """Two chunks of 16 tokens and 10 neurons, fed in unequal parts."""
    rng = np.random.default_rng(3)
    masks = rng.random((2, 16, 10)) < 0.3
    masks[:, :, 0], masks[:, :, 1] = True, False
    counts = sparsity._Counts(10, 16)
    for mask in masks:
        counts.add(mask[:5])
        counts.add(mask[5:])
    found = counts.layer(0)
    assert found.zeros == pytest.approx(1 - masks.mean())
    assert found.never == (~masks.any((0, 1))).mean()
    assert found.hot == (masks.mean((0, 1)) >= 0.5).mean()
    halves = 1 - masks.reshape(2, 8, 2, 10).mean((0, 2, 3))
    assert found.by_position == pytest.approx(halves.tolist())
    shared = (masks[:, 1:] & masks[:, :-1]).sum()
    assert found.from_last == pytest.approx(shared / masks[:, 1:].sum())
    assert found.together == {2: pytest.approx(1 - (masks[0] | masks[1]).mean())}


@pytest.mark.parametrize("before", [1, 4, 5])
def test_an_interrupted_reading_ends_at_the_same_figures(tmp_path: Path, before: int) -> None:
    """After chunks that begin, end, and lie within groups of two, four and eight."""
    model = plm_gguf.write(tmp_path / "model.gguf")
    words = "".join(map(chr, range(32, 124))) * 4  # 11 chunks, no two alike

    class Stop(NoProgress):
        """Ctrl-C after so many chunks."""

        left = before

        def advance(self, count: int) -> None:
            self.left -= count
            if not self.left:
                raise KeyboardInterrupt

    how = Reading(32, None, ONE_THREAD)
    whole = sparsity.measure(model, words, how)
    assert (whole.resumed, [*whole.layers[0].together]) == (0, [2, 4, 8])
    with pytest.raises(KeyboardInterrupt):
        sparsity.measure(model, words, replace(how, progress=Stop()))
    again = sparsity.measure(model, words, how)
    assert again == replace(whole, resumed=before)
    assert not any((kept.folder() / "runs").iterdir())


def test_a_calibrated_model_has_no_more_parameters(tiny_gguf: Path, tmp_path: Path) -> None:
    """The coarse form of its output matrix is a copy of what is there."""
    out = tmp_path / "calibrated.gguf"
    words = "def add(a, b):\n    return a + b\n\n" * 50
    calibration.calibrate(tiny_gguf, words, out, ONE_THREAD)
    how = Reading(32, 1, ONE_THREAD)
    assert sparsity.measure(out, words, how) == sparsity.measure(tiny_gguf, words, how)


@pytest.mark.slow
def test_both_layouts_and_the_kernel_count_the_same(
    tiny_checkpoint: Path, tiny_f32: Path, words: str, tmp_path: Path
) -> None:
    edge = tmp_path / "edge.gguf"
    convert(tiny_checkpoint, quant="f32", layout="edge", out=edge)
    one = sparsity.measure(tiny_f32, words, Reading(128, 4, ONE_THREAD))
    other = sparsity.measure(edge, words, Reading(128, 4, ONE_THREAD))
    assert other.zeros == pytest.approx(one.zeros, abs=1e-4)
    for ours, theirs in zip(one.layers, other.layers, strict=True):
        assert ours.by_position == pytest.approx(theirs.by_position, abs=1e-3)
        assert ours.from_last == pytest.approx(theirs.from_last, abs=1e-3)
        assert ours.together.keys() == {2, 4}
        assert ours.zeros > ours.together[2] > ours.together[4]
    # the kernel's counters, token by token: it reads no row of a zero
    with Session.open(edge, replace(ONE_THREAD, n_ctx=128)) as session:
        tokens = session.tokenize(words)[:24]
        session.rows.reset()
        for token in tokens:
            session.context.append([token])
        read = zero_share(session.rows.read())
    first = sparsity.measure(edge, words, Reading(24, 1, ONE_THREAD))
    assert read == pytest.approx(first.zeros, abs=1e-3)
    spared = sum(256 * layer.neurons * layer.zeros for layer in one.layers)
    assert one.activated == pytest.approx(one.parameters - spared)


@pytest.mark.slow
def test_zeros_are_those_of_torch(tiny_checkpoint: Path, tiny_f32: Path, words: str) -> None:
    found = sparsity.measure(tiny_f32, words, Reading(64, 1, ONE_THREAD))
    with Session.open(tiny_f32, replace(ONE_THREAD, n_ctx=64)) as session:
        tokens = session.tokenize(words)[:64]
    checkpoint = reference.Checkpoint(tiny_checkpoint)
    x = checkpoint.rows("model.embed_tokens.weight", tokens)
    where = torch.arange(len(tokens))
    for one in found.layers:
        weights = checkpoint.layer(one.layer)
        x, _, zeros = reference.layer(checkpoint.config, weights, x, where, None, where[:0])
        assert one.zeros == pytest.approx(zeros, abs=1e-4)


def test_a_page_of_pictures(tmp_path: Path) -> None:
    model = plm_gguf.write(tmp_path / "model.gguf")
    found = sparsity.measure(model, "abcdefgh" * 8, Reading(32, None, ONE_THREAD))
    page = pictures.html(found, "a <model>", "letters")
    assert page.count("<svg") == 3
    assert "a &lt;model&gt;" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert page.count("<tr>") == 1 + len(found.layers)
