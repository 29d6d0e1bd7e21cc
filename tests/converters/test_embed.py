"""The parts of an embedding: what may be asked for, tensor trains, the rank-1 pair."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.embed.rank_one import Pair
from plm_edge.converters.embed.spec import Quantised, TensorTrain, Train, parse
from plm_edge.converters.embed.tensor_train import decompose, rebuild
from plm_edge.converters.tensors import Floats
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.rows import floats
from plm_edge.engine import library
from tests.converters.conftest import said

Q = GGMLQuantizationType
random = np.random.default_rng(3)


def normal(rows: int, width: int) -> Floats:
    made: Floats = random.standard_normal((rows, width), np.float32)
    return made


def fit(text: str, width: int) -> Train:
    spec = parse(text)
    assert isinstance(spec, TensorTrain)
    return spec.fit(width)


def lost(train: Train, vectors: Floats) -> float:
    again = rebuild(decompose(vectors, train, train.values), train)
    return float(np.linalg.norm(again - vectors) / np.linalg.norm(vectors))


def test_the_papers_shapes_and_ratios() -> None:
    assert fit("tt:ratio=2.0", 576) == Train((24, 24), (6,))
    assert fit("tt:ratio=2.0", 2048) == Train((32, 64), (10,))
    assert round(fit("tt:ratio=2", 2048).ratio, 2) == 2.13
    assert round(fit("tt:dims=2x2x2x2x2x2x2x2x3,ranks=1", 768).ratio, 1) == 40.4
    assert round(fit("tt:dims=4x4x3x4x4,ranks=1", 768).ratio, 1) == 40.4
    assert round(Train((8, 8, 9), (6, 5)).ratio, 2) == 1.73


def test_what_is_asked_for() -> None:
    assert parse("r1") == Quantised(Q.Q4_K, pair=True)
    assert parse("r1,type=q3_k") == parse("r1:type=q3_k") == Quantised(Q.Q3_K, pair=True)
    assert parse("r1,split=8192:q5_k/q3_k") == Quantised(Q.Q5_K, 8192, Q.Q3_K, pair=True)
    assert parse("r1:split=8192:q5_k/q3_k") == Quantised(Q.Q5_K, 8192, Q.Q3_K, pair=True)
    assert parse("r1,split=95%:q5_k/q3_k") == Quantised(Q.Q5_K, None, Q.Q3_K, 95, pair=True)
    assert parse("type=q5_k") == Quantised(Q.Q5_K)
    assert parse("split=8192:q5_k/q3_k") == Quantised(Q.Q5_K, 8192, Q.Q3_K)
    assert parse("split=95%:q5_k/q3_k") == Quantised(Q.Q5_K, None, Q.Q3_K, 95)
    assert parse("tt:dims=32x64,ranks=10,cores=q8_0,head=cores") == TensorTrain(
        (32, 64), (10,), None, Q.Q8_0, "cores"
    )
    assert parse("tt") == TensorTrain()


@pytest.mark.parametrize(
    "text",
    [
        *("", "svd", "tt:ranks", "tt:ranks=", "tt:ranks=0", "tt:ranks=1,ranks=2", "tt:dims=576"),
        *("tt:dims=1x576", "tt:ratio=0", "tt:ratio=nan", "tt:ratio=2,ranks=6", "tt:cores=q4_k"),
        *("tt:dims=2x2x2x2x2x2x2x2x2x2x2x2", "tt:head=all", "r1,type=f64", "r1,split=0:q5_k/q3_k"),
        *(
            "r1,split=100%:q5_k/q3_k",
            "r1,split=8192",
            "r1,split=1:q5_k/q3_k,type=q4_k",
            "r1,ratio=2",
        ),
        *("type", "type=", "type=q4_k,ratio=2", "split=8192", "split=8192:q5_k/f64"),
        *("split=1:q5_k/q3_k,type=q4_k", "ratio=2"),
        *("tt:dims=24x25", "tt:dims=24x24,ranks=25", "tt:ranks=6x5", "tt:ratio=13"),
        *("tt:dims=8x8x9,ranks=9x5", "tt:dims=8x8x9,ranks=1x9"),
    ],
)
def test_what_cannot_be_is_a_usage_error_of_three_lines(text: str) -> None:
    with pytest.raises(PlmEdgeError) as error:
        fit(text, 576)
    assert error.value.code == ExitCode.USAGE
    said(error)


@pytest.mark.parametrize(
    "dims", [(24, 24), (8, 8, 9), (4, 4, 4, 9), (2, 288), (96, 6), (2,) * 6 + (3, 3), (3, 2) * 3]
)
def test_of_full_rank_nothing_is_lost(dims: tuple[int, ...]) -> None:
    width = prod(dims)
    ranks = tuple(min(prod(dims[:k]), prod(dims[k:])) for k in range(1, len(dims)))
    vectors = normal(7, width)
    again = rebuild(decompose(vectors, Train(dims, ranks), 4 * width * 64), Train(dims, ranks))
    np.testing.assert_allclose(again, vectors, atol=1e-5)


def test_two_to_eleven_cores() -> None:
    for count in range(2, 12):
        dims = "x".join(map(str, (2,) * (count - 1) + (2048 >> (count - 1),)))
        assert lost(fit(f"tt:dims={dims},ratio=1.5", 2048), normal(2, 2048)) < 0.8


def test_two_cores_are_the_singular_value_decomposition() -> None:
    vectors, train = normal(20, 576), Train((24, 24), (6,))
    again = rebuild(decompose(vectors, train, train.values), train).reshape(-1, 24, 24)
    for one, other in zip(vectors.reshape(-1, 24, 24).astype(np.float64), again, strict=True):
        left, values, right = np.linalg.svd(one)
        best = (left[:, :6] * values[:6]) @ right[:6]
        np.testing.assert_allclose(other, best, atol=1e-5)


def test_cores_lie_as_the_engine_reads_them() -> None:
    """x[i, j, k] = sum over a, b of G1[i, a] G2[a, j, b] G3[b, k], G2 as [j][b][a]."""
    train = Train((3, 4, 5), (3, 5))
    [row] = decompose(normal(1, 60), train, 128).astype(np.float64)
    first, second, third = row[:9], row[9:69], row[69:94]
    expected = np.einsum(
        "ia,jba,kb->ijk", first.reshape(3, 3), second.reshape(4, 5, 3), third.reshape(5, 5)
    )
    [got] = rebuild(row[None].astype(np.float32), train)
    np.testing.assert_allclose(got.reshape(3, 4, 5), expected, atol=1e-5)
    assert not row[94:].any()


def test_a_vector_alone_has_the_bits_that_it_has_among_others() -> None:
    vectors, train = normal(65, 576), Train((8, 8, 9), (6, 5))
    together = decompose(vectors, train, 352)
    for at in (0, 40, 64):
        np.testing.assert_array_equal(decompose(vectors[at : at + 1], train, 352)[0], together[at])


def test_zeros_stay_zeros() -> None:
    train = Train((24, 24), (6,))
    assert not rebuild(decompose(np.zeros((2, 576), np.float32), train, 288), train).any()


def test_a_real_embedding_has_no_more_structure_than_noise(chat_gguf: Path) -> None:
    """The finding that docs/embeddings.md reports, of SmolLM2's vectors as 24 x 24 at twice."""
    from plm_edge.converters.sources import gguf_source

    with gguf_source.open_tensors(chat_gguf) as (_, tensors):
        rows = floats(tensors["token_embd.weight"], 0, 49152, Quantizer(library.load().ggml))
    train = Train((24, 24), (6,))
    assert lost(train, rows[::24]) == pytest.approx(0.590, abs=0.005)
    shuffled = rows[::24, np.random.default_rng(0).permutation(576)]
    assert lost(train, shuffled) == pytest.approx(0.590, abs=0.02)
    assert lost(train, normal(2048, 576)) == pytest.approx(0.610, abs=0.005)


def test_the_pair_is_the_best_of_rank_one() -> None:
    rows = normal(300, 40) + 2 * random.standard_normal(40).astype(np.float32)
    weights = np.geomspace(0.01, 10, 40).astype(np.float32)
    for given in (None, weights):
        pair = Pair.of([rows[:100], rows[100:]], 40, given)
        scale = np.ones(40) if given is None else np.sqrt(given.astype(np.float64))
        rest = pair.rest(rows, pair.u(rows)) * scale
        values = np.linalg.svd(rows * scale, compute_uv=False)
        assert np.square(rest).sum() == pytest.approx(np.square(values[1:]).sum(), rel=1e-5)
