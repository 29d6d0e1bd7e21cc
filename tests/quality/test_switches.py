"""What is said of the engine's switches is so, on tiny-plm in both layouts and types."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plm_edge.converters.convert import convert
from plm_edge.engine import accelerators
from plm_edge.engine.session import Session
from plm_edge.engine.sparsity import zero_share
from plm_edge.quality import switches
from testkit import plm_gguf
from tests.quality.conftest import ONE_THREAD


@pytest.mark.slow
@pytest.mark.parametrize("which", ["f32", "edge"])
def test_exact_switches_are_exact(which: str, tiny_f32: Path, tiny_gguf: Path, words: str) -> None:
    model = tiny_f32 if which == "f32" else tiny_gguf
    found = {one.name: one for one in switches.measure(model, words, 96, 1)}
    assert all(one.holds for one in found.values())
    assert sum(one.same for one in found.values()) >= 3
    # a product of quantised weights rounds its input to 8 bits: there a last bit weighs more
    most = 1e-5 if which == "f32" else 5e-3
    assert all(one.kl < most for one in found.values() if one.claim == "rounds")
    skipped = [one for name, one in found.items() if "zero neurons" in name]
    assert len(skipped) == 2
    if which == "f32":  # in the stock layout, which skips none; and nothing is repacked
        assert all(one.same for one in [*skipped, found["weights repacked"]])
    assert found["cache in q4_0"].kl > found["cache in q8_0"].kl > 0


@pytest.mark.parametrize("type_", ["f32", "q4_0"])
def test_a_session_that_skips_no_rows(tiny_checkpoint: Path, tmp_path: Path, type_: str) -> None:
    edge = tmp_path / "edge.gguf"
    convert(tiny_checkpoint, quant=type_, layout="edge", out=edge)
    options = replace(ONE_THREAD, n_ctx=32)
    made, zeros = [], []
    for chosen in (options, replace(options, skip_zeros=False), options):
        with Session.open(edge, chosen) as session:
            session.rows.reset()
            for token in range(5, 25):
                session.context.append([token])
            made.append(session.context.row_logits().copy())
            zeros.append(zero_share(session.rows.read()))
    assert zeros[0] == zeros[2]  # skipped again once that session is closed
    assert zeros[0] is not None
    assert zeros[0] > 0.3
    assert zeros[1] == 0
    assert np.array_equal(made[0], made[2])
    assert type_ != "f32" or np.array_equal(made[0], made[1])
    assert np.abs(made[0] - made[1]).max() < 0.05 * np.abs(made[0]).max()


def test_a_gpu_is_a_switch_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, expected in (([], 0), (["a GPU"], 1)):
        monkeypatch.setattr(accelerators, "gpus", lambda engine, found=found: found)
        on_gpu = [one for one in switches.switches(128) if one.options.gpu_layers != 0]
        assert [one.claim for one in on_gpu] == ["rounds"] * expected
        assert all(one.against.gpu_layers == 0 for one in switches.switches(128))


def test_a_switch_that_is_not_what_is_said_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = switches.Switch("cache", "exact", replace(switches.OFF, kv="q4_0"))
    monkeypatch.setattr(switches, "switches", lambda n_ctx: [wrong])
    model = plm_gguf.write(tmp_path / "model.gguf")
    [found] = switches.measure(model, "some words that fill a chunk " * 3, 32, 1)
    assert not found.same
    assert not found.holds
    assert found.kl_max >= found.kl > 0
