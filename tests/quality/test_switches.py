"""What is said of the engine's switches is so, on tiny-plm in both layouts and types."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.quality import switches
from testkit import plm_gguf


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
    assert found["cache in q4_0"].kl > found["cache in q8_0"].kl > 0


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
