"""The engine's logits against the reference's, over all positions: f32 weights, f16 cache."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.parity.engine import Setting
from tests.parity.subjects import ALL, Subject, error_of

BOUND = 1e-4
# Lengths of sequences by micro-batch. One sequence: past the first micro-batch and into the next.
# Three, of which one ends early: their rows share micro-batches in changing company.
# A micro-batch of 1 costs a graph a token, and tells as much over fewer of them.
ONE = {1: (96,), 7: (160,), 32: (200,), 512: (600,)}
THREE = {1: (40, 5, 20), 7: (60, 5, 33), 32: (90, 12, 70), 512: (300, 12, 150)}

matrix = pytest.mark.parametrize(
    ("name", "flash", "ubatch"),
    [(n, f, u) for n in ALL for f in ("on", "off", "auto") for u in (1, 7, 32, 512)],
)


@matrix
def test_one_sequence(
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    name: str,
    flash: str,
    ubatch: int,
) -> None:
    within(error_of(subject(name), ONE[ubatch], Setting(flash, ubatch, context=768)), BOUND)


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "streams"])
@matrix
def test_three_sequences(
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    name: str,
    flash: str,
    ubatch: int,
    unified: bool,
) -> None:
    setting = Setting(flash, ubatch, sequences=3, unified=unified, context=1536)
    within(error_of(subject(name), THREE[ubatch], setting), BOUND)


@pytest.mark.parametrize("ubatch", [63, 64, 65])
@pytest.mark.parametrize("flash", ["on", "off"])
@pytest.mark.parametrize("name", ["odd", "plm-attention"])
def test_around_the_switch_over(
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    name: str,
    flash: str,
    ubatch: int,
) -> None:
    """Both forms in turn over one cache, the last micro-batch of a few tokens or one."""
    within(error_of(subject(name), (131,), Setting(flash, ubatch, context=256)), BOUND)


@pytest.mark.parametrize("ubatch", [50, 100])
@pytest.mark.parametrize("flash", ["on", "off"])
def test_two_threads(
    subject: Callable[[str], Subject],
    within: Callable[[float, float], None],
    flash: str,
    ubatch: int,
) -> None:
    """The other tests run on one thread: the work is also split right between two."""
    setting = Setting(flash, ubatch, threads=2, context=768)
    within(error_of(subject("plm-attention"), (150,), setting), BOUND)
