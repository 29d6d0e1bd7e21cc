"""bench and llama-bench measure the same: in turns, each held against itself first.

Nothing here depends on how fast this machine is: samples are short, so that some of many are not
disturbed by other programs, and more are taken until each program repeats its own fastest one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.against_llama_bench import STEADY, Turns, in_turns
from plm_edge.bench.workload import WORKLOADS, Point

# llama-bench's settings, and many short samples
WORKLOAD = replace(WORKLOADS["llama-bench"], min_repeats=60, max_repeats=60)


@pytest.mark.parametrize("point", [Point("prefill", 32), Point("decode", 8)], ids=lambda p: p.name)
def test_decode_and_prefill_are_llama_benchs(tiny_gguf: Path, point: Point) -> None:
    turns = in_turns(tiny_gguf, point, 1, WORKLOAD, at_least=4, at_most=60)
    assert turns.steady, "too much else runs here: no two halves of the runs agree"
    assert turns.agree, f"ours is {turns.ratio:.3f} of llama-bench's"
    for wrong in (2.0, 0.5, 1.3):  # a figure that counts tokens twice would be noticed
        assert not Turns([[wrong * rate for rate in run] for run in turns.ours], turns.theirs).agree


def test_what_is_steady_and_what_agrees() -> None:
    calm, other = [[100.0, 60.0], [99.0, 10.0]], [[95.0], [96.0, 50.0]]
    assert Turns(calm, other).steady
    assert Turns(calm, other).agree
    assert not Turns(calm, [[80.0], [81.0]]).agree
    assert not Turns([[100.0], [80.0]], other).steady
    assert not Turns([[100.0]], [[100.0]]).steady, "one run cannot be held against itself"
    assert STEADY < 0.1
