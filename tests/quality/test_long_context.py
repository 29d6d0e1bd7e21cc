"""A smaller cache over a long context: divergence by position, and a name that is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.quality import long_context


@pytest.mark.slow
def test_divergence_by_position_and_a_needle(tiny_f32: Path, words: str) -> None:
    found = long_context.measure(tiny_f32, words, 512, options=Options(threads=1))
    assert found["f32"].by_position == (0,) * 8
    for part in range(8):
        kl = [found[kv].by_position[part] for kv in ("f16", "q8_0", "q4_0")]
        assert 0 < kl[0] < kl[1] < kl[2] < 0.1
    for one in found.values():
        # the name is found, whatever the cache: e times likelier than one that was not assigned
        assert one.needle > one.elsewhere + 1
        assert abs(one.needle - found["f32"].needle) < 0.2


def test_too_little_text(tiny_f32: Path) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        long_context.measure(tiny_f32, "a few words", 512, options=Options(threads=1))
    assert caught.value.what == "the text does not fill the context"
