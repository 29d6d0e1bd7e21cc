"""Types, threads and caches against each other: the front by hand, and a small sweep for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import matrix, variants
from plm_edge.bench.matrix import Sweep, front, sweep
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.workload import Workload
from plm_edge.quality.divergence import Divergence, windows_of

SHORT = Workload("short", budget_s=0.0, min_repeats=2, max_repeats=2)


def test_the_front_is_what_no_other_dominates() -> None:
    points = [(1, 5), (2, 2), (3, 3), (5, 1), (2, 2)]
    assert front(points) == [True, True, False, True, True]


def test_a_sweep_in_words() -> None:
    found = sweep(["quant=q4_k,q8_0", "threads=1,2", "kv=f16"], 2)
    assert found == Sweep(("q4_k_m", "q8_0"), (1, 2), ("f16",))
    assert len(found) == len([*found.cells()]) == 4


def test_threads_that_are_not_said_are_those_of_the_machine() -> None:
    assert sweep([], 4).threads == (1, 2, 4)
    assert sweep([], 1).threads == (1,)


@pytest.mark.parametrize("word", ["quant=", "threads=0", "threads=x", "kv=q9", "size=1", "quant"])
def test_words_that_are_not_understood(word: str) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        sweep([word], 2)
    assert caught.value.code == ExitCode.USAGE


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def test_every_cell_has_speed_memory_and_divergence(cache: None) -> None:
    said: list[str] = []
    wanted = Sweep(("q2_k", "q8_0"), (1,), ("f16", "q4_0"))
    found = matrix.measure(variants.origin(None), wanted, SHORT, Setting(Path()), said.append)
    assert [(c.quant, c.kv, c.threads) for c in found.cells] == [*wanted.cells()]
    by = {(cell.quant, cell.kv): cell for cell in found.cells}
    assert found.reference.type == "f32"
    assert by["q8_0", "f16"].kl_nats < by["q2_k", "f16"].kl_nats / 10
    assert by["q8_0", "f16"].kl_nats < by["q8_0", "q4_0"].kl_nats
    # the best of one measure alone is always on the front
    best = min(found.cells, key=lambda cell: cell.kl_nats)
    fastest = max(found.cells, key=lambda cell: cell.decode_tps)
    assert best.pareto
    assert fastest.pareto
    for cell in found.cells:
        assert cell.decode.tps
        assert cell.decode.memory
        assert cell.decode_tps == cell.decode.tps.median
        assert cell.peak_rss_bytes > cell.decode.memory.kv_bytes
    assert any("divergence of q2_k" in line for line in said)


def test_a_model_does_not_diverge_from_itself(cache: None) -> None:
    model = variants.provide(variants.origin(None), "f32")
    measure = Divergence(model, windows_of(model)[:2])
    assert measure.of(model) == pytest.approx(0, abs=1e-9)
    assert (measure.of(model, "q4_0") > 1e-6).all()
    assert measure.of(model, step=2).shape == (1,)


def test_divergence_by_hand(cache: None) -> None:
    """Against probabilities that are computed here from the logits."""
    from plm_edge.engine.options import Options
    from plm_edge.engine.session import Session
    from plm_edge.quality.divergence import logits

    good = variants.provide(variants.origin(None), "f32")
    poor = variants.provide(variants.origin(None), "q2_k")
    window = windows_of(good)[0][:70]  # more than a chunk
    found = []
    for path in (good, poor):
        options = Options(n_ctx=128, kv="f32", max_outputs=128)
        with Session.open(path, options) as session:
            found.append(logits(session, window, 0).astype(np.float64))
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in found)
    by_hand = (p * np.log(p / q)).sum(1).mean()
    assert Divergence(good, [window]).of(poor)[0] == pytest.approx(by_hand, rel=1e-2)


def test_the_reference_is_the_file_itself_when_it_is_good(tiny_gguf: Path, cache: None) -> None:
    best = variants.provide(variants.origin(None), "q8_0")
    found = variants.origin(best)
    assert (found.best, found.quantised) == ("q8_0", True)
    assert variants.provide(found, "q8_0") == best
    with pytest.raises(PlmEdgeError, match="too few bits"):
        variants.origin(tiny_gguf)


def test_a_type_is_made_once(cache: None) -> None:
    source = variants.origin(None)
    first = variants.provide(source, "q8_0")
    written = first.stat().st_mtime_ns
    assert variants.provide(source, "q8_0") == first
    assert first.stat().st_mtime_ns == written
