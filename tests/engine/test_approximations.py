"""Rows in planes in a whole model: what is left out, and what is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plm_edge.converters import convert as conversion
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.engine.sparsity import LayerRows, low_share
from plm_edge.machine import cpu
from testkit import rpc

pytestmark = pytest.mark.slow

TEXT = "def mean(values):\n    return sum(values) / len(values)\n"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """The same weights, none of them in planes: version 1 of the edge layout."""
    out = tmp_path_factory.mktemp("old") / "old.gguf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "in_planes", lambda *_: False)
        conversion.convert(tiny_checkpoint, quant="q4_k", out=out)
    return out


def logits(
    model: Path, together: int, exact: bool, margin: float = 1, threads: int = 1
) -> tuple[NDArray[np.float32], list[LayerRows]]:
    """The last token's, and the rows that were read.

    Args:
        together: tokens of a batch.
    """
    options = Options(n_ctx=256, threads=threads, kv="f32", exact=exact)
    with Session.open(model, options) as session:
        session.approximations.margin(margin)
        session.rows.reset()
        tokens = session.tokenize(TEXT)
        for at in range(0, len(tokens), together):
            session.context.append(tokens[at : at + together])
        session.approximations.margin(1)
        return session.context.row_logits().copy(), session.rows.read()


def divergence(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    p, q = (
        row.astype(np.float64) - np.logaddexp.reduce(row.astype(np.float64))
        for row in (expected, found)
    )
    return float((np.exp(p) * (p - q)).sum())


def test_most_lower_bits_are_left_out_and_little_changes(tiny_gguf: Path) -> None:
    exact, all_rows = logits(tiny_gguf, 1, exact=True)
    found, some = logits(tiny_gguf, 1, exact=False)
    assert low_share(all_rows) == 1
    read = low_share(some)
    assert read is not None
    assert 0.05 < read < 0.5
    assert not np.array_equal(found, exact)
    assert divergence(exact, found) < 0.01  # one token: the mean of many is below 0.002


def test_a_margin_that_nothing_passes_is_exact(tiny_gguf: Path) -> None:
    exact, _ = logits(tiny_gguf, 1, exact=True)
    found, rows = logits(tiny_gguf, 1, exact=False, margin=1e9)
    assert low_share(rows) == 1
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("exact", [True, False])
def test_small_batches_have_the_bits_of_single_tokens(tiny_gguf: Path, exact: bool) -> None:
    alone, _ = logits(tiny_gguf, 1, exact)
    for together in (3, 8):
        np.testing.assert_array_equal(logits(tiny_gguf, together, exact)[0], alone)


@pytest.mark.parametrize("together", [1, 8, 17, 64])
def test_exact_is_what_the_same_rows_in_q4_k_give(
    tiny_gguf: Path, old: Path, together: int
) -> None:
    """Bit for bit with AVX2, whose kernel of q4_K sums the floats of blocks in the same order; that
    of AVX-512 keeps two sums a row."""
    expected, rows = logits(old, together, exact=False)
    assert low_share(rows) is None
    found, _ = logits(tiny_gguf, together, exact=True)
    assert divergence(expected, found) < 0.01
    if "avx2" in cpu.flags() and "avx512_vnni" not in cpu.flags():
        np.testing.assert_array_equal(found, expected)


def test_threads_do_not_change_the_bits(tiny_gguf: Path) -> None:
    one, _ = logits(tiny_gguf, 1, exact=False)
    for threads in (2, 3):
        np.testing.assert_array_equal(logits(tiny_gguf, 1, exact=False, threads=threads)[0], one)


def test_other_machines_get_the_rows_joined(tiny_gguf: Path, old: Path) -> None:
    found = []
    with rpc.two() as servers:
        endpoints = tuple(server.endpoint for server in servers)
        for model in (tiny_gguf, old):
            options = Options(n_ctx=256, threads=1, kv="f32", rpc=endpoints, gpu_layers=99)
            with Session.open(model, options) as session:
                session.context.append(session.tokenize(TEXT))
                found.append(session.context.row_logits().copy())
    np.testing.assert_array_equal(found[0], found[1])
