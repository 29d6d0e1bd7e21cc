"""The coarse form of an output matrix: its basis, its codes, and how far off they are."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.converters.convert import convert
from plm_edge.converters.head import basis, codes, form
from plm_edge.converters.head.states import States, Sums
from plm_edge.converters.tensors import Floats
from plm_edge.converters.write.amend import NewTensor, amend
from plm_edge.model import gguf_file

N, ROWS = 320, 1000
random = np.random.default_rng(7)
MATRIX = (random.standard_normal((ROWS, N)) * np.geomspace(3, 0.1, N) + 0.5).astype(np.float32)
MIX = random.standard_normal((N, N)).astype(np.float32) / np.sqrt(N)


def hidden(count: int) -> Floats:
    """States whose dimensions depend on each other, and whose mean is not zero."""
    made: Floats = np.random.default_rng(count).standard_normal((count, N), np.float32)
    made = np.matmul(made, MIX) + np.float32(0.3)
    return made  # noqa: RET504 -- its type is known so


@pytest.fixture(scope="module")
def states() -> States:
    sums = Sums.none(N)
    for _ in range(4):
        sums.add(hidden(2000))
    return sums.states()


def matrix() -> list[Floats]:
    return [MATRIX[at : at + 256] for at in range(0, ROWS, 256)]


def test_moments(states: States) -> None:
    h = hidden(2000).astype(np.float64)
    assert states.tokens == 8000
    np.testing.assert_allclose(states.mean, h.mean(0), atol=1e-5)
    np.testing.assert_allclose(states.covariance, np.cov(h.T, bias=True), atol=1e-4)


def test_in_the_basis_logits_are_the_same(states: States) -> None:
    found = basis.find(lambda: iter(matrix()), states)
    h = hidden(50)
    z = (h - found.states_mean) @ found.project.T
    centred = MATRIX - found.rows_mean
    logits = (
        z @ (centred @ found.turn).T + centred @ found.states_mean + h @ found.rows_mean[:, None]
    )
    np.testing.assert_allclose(logits, h @ MATRIX.T, atol=2e-3)
    # a z_j has variance 1 where the ridge is small beside it; columns matter less and less
    z = ((hidden(2000) - found.states_mean) @ found.project.T)[:, :50]
    assert np.abs(np.cov(z.T) - np.eye(50)).max() < 0.2
    assert (np.diff(found.energy) <= 0).all()


def test_columns_go_where_most_is_left(states: States) -> None:
    found = basis.find(lambda: iter(matrix()), states)
    columns = codes.choose(found, 512)
    counts = np.bincount(columns.of, minlength=N)
    assert counts.sum() == 512
    assert (np.diff(counts) <= 0).all()  # the more energy, the more columns
    assert counts[0] > 1
    firsts = int((counts > 0).sum())
    assert len(set(columns.of[:firsts].tolist())) == firsts  # they come before all second ones


@pytest.mark.parametrize("n_columns", [256, 512])
def test_the_error_is_the_one_that_is_foretold(states: States, n_columns: int) -> None:
    found = basis.find(lambda: iter(matrix()), states)
    columns = codes.choose(found, n_columns)
    turned = np.float32((MATRIX - found.rows_mean) @ found.turn)
    code, scales, left = codes.encode(turned, columns)
    z = (hidden(500) - found.states_mean) @ found.project.T
    error = z @ left.T
    foretold = np.square(z) @ np.square(left).mean(0)
    assert np.square(error).mean(1).sum() == pytest.approx(foretold.sum(), rel=0.1)
    assert foretold.mean() < 0.15 * np.square(turned).sum(1).mean()

    # what is packed gives the same values as the codes
    filled = np.pad(code, ((0, -ROWS % 16), (0, 0)))
    packed = codes.pack(filled, np.pad(scales, ((0, -ROWS % 16), (0, 0))))
    values = unpacked(packed, n_columns)[:ROWS] * columns.scales
    coarse = np.zeros_like(turned)
    for k, j in enumerate(columns.of):
        coarse[:, j] += values[:, k]
    np.testing.assert_allclose(coarse, turned - left, atol=1e-4)


def unpacked(packed: np.ndarray, n_columns: int) -> Floats:
    """As plm-head.h says."""
    found = np.empty((16 * len(packed), n_columns), np.float32)
    for g, group in enumerate(packed.reshape(len(packed), -1, codes.BLOCK_BYTES)):
        for b, block in enumerate(group):
            scale = block[:32].view(np.float16).astype(np.float32)
            table = block[32:].reshape(8, 2, 16, 4)
            for k in range(256):
                byte = table[k // 32, k % 32 // 16, :, k % 4]
                code = byte >> (2 * (k % 16 // 4)) & 3
                found[16 * g : 16 * g + 16, 256 * b + k] = (2.0 * code - 3) * scale
    return found


def test_the_tensors_of_a_file(states: States) -> None:
    made = form.make(lambda: iter(matrix()), ROWS, states, NoProgress())
    shapes = {tensor.name.removeprefix("output.coarse."): tensor.shape for tensor in made.tensors}
    assert shapes == {
        "basis": (N, N),
        "codes": (63, codes.BLOCK_BYTES),
        "bias": (ROWS,),
        "columns": (2, 256),
        "moments": (3, N),
    }
    assert made.deviation > 0


@pytest.mark.parametrize(("width", "columns"), [(64, 256), (576, 256), (1000, 512), (2048, 1024)])
def test_how_many_columns(width: int, columns: int) -> None:
    assert form.n_columns(width) == columns


def test_an_amended_file_has_all_that_was_there(tmp_path: Path, tiny_checkpoint: Path) -> None:
    from plm_edge.converters.sources import gguf_source

    plain, out = tmp_path / "plain.gguf", tmp_path / "more.gguf"
    convert(tiny_checkpoint, quant="q4_k", out=plain)
    content = gguf_file.read(plain)
    more = NewTensor("more", gguf.GGMLQuantizationType.F32, (3,), np.arange(3, dtype=np.float32))
    with plain.open("rb", buffering=0) as file:
        tensors = [gguf_source.tensor_of(content, t, file.fileno()) for t in content.tensors]
        keys = gguf_source.all_keys(content)
        size = amend(out, "plm", keys, tensors, None, [more], NoProgress())
    assert size == out.stat().st_size
    before, after = gguf.GGUFReader(plain), gguf.GGUFReader(out)
    assert [t.name for t in after.tensors] == [*(t.name for t in before.tensors), "more"]
    for one, other in zip(before.tensors, after.tensors, strict=False):
        assert one.tensor_type == other.tensor_type
        np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_array_equal(after.tensors[-1].data, [0, 1, 2])
    for name, field in before.fields.items():
        if not name.startswith("GGUF."):
            assert after.fields[name].contents() == field.contents()


def test_an_amended_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "no" / "such.gguf"
    with pytest.raises(PlmEdgeError):
        amend(out, "plm", {}, [], None, [], NoProgress())
    assert not out.parent.exists()


def test_a_matrix_that_is_too_narrow() -> None:
    states = States(100, np.zeros(48), np.eye(48))
    with pytest.raises(PlmEdgeError, match="cannot be calibrated"):
        form.make(lambda: iter([MATRIX[:, :48]]), ROWS, states, NoProgress())
