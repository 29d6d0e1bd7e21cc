"""The rule that chooses context and cache by memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.machine.memory import Room
from plm_edge.model import fit
from plm_edge.model import need as needs
from plm_edge.model.gguf_file import GGUFFile
from tests.model.test_need import MIB, PLM, header


@pytest.fixture
def model(tmp_path: Path) -> GGUFFile:
    return header(tmp_path / "m.gguf", "plm", **PLM)


def room(n_bytes: int) -> Room:
    return Room(n_bytes, "this machine")


def total(model: GGUFFile, n_ctx: int, kv: str) -> int:
    return needs.of(model, n_ctx, kv).total


def test_with_enough_memory_the_preferred(model: GGUFFile) -> None:
    chosen = fit.choose(model, room=room(total(model, 4096, "f16")))
    assert (chosen.n_ctx, chosen.kv, chosen.note) == (4096, "f16", None)
    assert chosen.fits


@pytest.mark.parametrize(
    ("n_ctx", "kv"),
    [(4096, "q8_0"), (2048, "q8_0"), (1024, "q8_0"), (1024, "q4_0"), (512, "q4_0")],
)
def test_less_memory_step_by_step(model: GGUFFile, n_ctx: int, kv: str) -> None:
    """Just enough for a step takes it, and one byte less takes the next."""
    enough = total(model, n_ctx, kv)
    chosen = fit.choose(model, room=room(enough))
    assert (chosen.n_ctx, chosen.kv) == (n_ctx, kv)
    assert chosen.note is not None
    assert kv in chosen.note
    if (n_ctx, kv) == (512, "q4_0"):
        with pytest.raises(PlmEdgeError) as caught:
            fit.choose(model, room=room(enough - 1))
        assert caught.value.code is ExitCode.RESOURCES
        assert "--force" in caught.value.fix
        return
    less = fit.choose(model, room=room(enough - 1))
    assert (less.n_ctx, less.kv) != (n_ctx, kv)
    assert less.need.total < enough


def test_what_is_given_is_kept(model: GGUFFile) -> None:
    tight = room(total(model, 2048, "q8_0"))
    assert fit.choose(model, 2048, room=tight).kv == "q8_0"
    assert fit.choose(model, kv="f16", room=tight).n_ctx == 1024
    with pytest.raises(PlmEdgeError, match="not enough memory") as caught:
        fit.choose(model, 4096, "f16", room=tight)
    assert "KV cache 144 for 4,096 tokens in f16" in caught.value.why
    insisted = fit.choose(model, 4096, "f16", room=tight, force=True)
    assert (insisted.n_ctx, insisted.kv, insisted.fits) == (4096, "f16", False)


def test_force_gives_up_nothing(model: GGUFFile) -> None:
    chosen = fit.choose(model, room=room(MIB), force=True)
    assert (chosen.n_ctx, chosen.kv, chosen.note) == (4096, "f16", None)


def test_a_cache_that_cannot_be_quantised(tmp_path: Path) -> None:
    odd = header(tmp_path / "o.gguf", "plm", **{**PLM, "rope__dimension_count": 40})
    chosen = fit.choose(odd, room=room(total(odd, 1024, "f16")))
    assert (chosen.n_ctx, chosen.kv) == (1024, "f16")
    with pytest.raises(PlmEdgeError) as caught:
        fit.choose(odd, 4096, room=room(total(odd, 1024, "f16")))
    assert "--ctx 1024" in caught.value.fix
    assert "--kv" not in caught.value.fix


def test_conversations_at_once_have_each_their_context(model: GGUFFile) -> None:
    four = needs.of(model, 2048, "q8_0", n_seq=4)
    assert four.kv == 4 * needs.of(model, 2048, "q8_0").kv
    chosen = fit.choose(model, n_seq=4, room=room(four.total))
    assert (chosen.n_ctx, chosen.kv) == (2048, "q8_0")
    with pytest.raises(PlmEdgeError) as caught:
        fit.choose(model, 4096, "q8_0", n_seq=4, room=room(four.total))
    assert "for 4 times 4,096 tokens" in caught.value.why
    assert "--ctx 2048" in caught.value.fix


def test_layers_elsewhere_take_nothing_here(model: GGUFFile) -> None:
    tight = room(total(model, 4096, "f16") - 72 * MIB)
    assert fit.choose(model, room=tight).kv == "q8_0"
    assert fit.choose(model, room=tight, share=0.5).kv == "f16"


def test_a_type_that_is_not_offered_is_refused_in_words(model: GGUFFile) -> None:
    with pytest.raises(PlmEdgeError, match="not enough memory"):
        fit.choose(model, 4096, "f32", room=room(MIB))
