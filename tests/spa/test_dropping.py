"""Rows that an override makes void are given up while they are computed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from plm_edge.engine.options import Options
from plm_edge.spa.base import Base, Dropped
from plm_edge.spa.device import Generation
from plm_edge.spa.making import Texts
from plm_edge.spa.server import SpaServer
from tests.spa.arithmetic import Arithmetic
from tests.spa.links import OWN, alone, made, remote
from tests.spa.serving import Scripted


def test_a_void_row_is_given_up(base: Arithmetic, server: SpaServer) -> None:
    base.patience_s = 0.02
    script = dict.fromkeys(range(0, 60, 3), 7)
    assert made(Generation(remote(server.port), Scripted(script), OWN.vocabulary)) == alone(script)
    assert server.dropped > 0


def test_texts_beside_each_other_are_as_they_are_alone(base: Arithmetic, server: SpaServer) -> None:
    base.patience_s = 0.005
    scripts = [dict.fromkeys(range(0, 60, every), 7) for every in (2, 7)]

    def one(script: dict[int, int]) -> list[int]:
        return made(Generation(remote(server.port), Scripted(script), OWN.vocabulary))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, scripts)) == list(map(alone, scripts))


@pytest.mark.parametrize("rows", [1, 2])
def test_the_engine_goes_on_where_it_was(read_texts: Texts, rows: int) -> None:
    options = Options(threads=2, kv="f32", n_ctx=256)
    base = Base(read_texts.header.path, read_texts.codec, options, sequences=rows)
    try:
        void = base.flag()
        for sequence in range(rows):
            base.fill([5, 6, 7 + sequence], 0, sequence)
        asked = [(9, 3, sequence) for sequence in range(rows)]
        void.set()
        with pytest.raises(Dropped):
            base.compute(asked, drop=void)
        void.clear()
        states, logits = base.compute(asked, drop=void)
        found = states.copy(), logits.copy()
        for sequence in range(rows):
            base.session.context.remove(sequence, 3)
        states, logits = base.compute(asked)
        assert np.array_equal(found[0], states)
        assert np.array_equal(found[1], logits)
    finally:
        base.close()
