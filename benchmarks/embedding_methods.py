"""Ways to make an embedding smaller, as `E -> Ê` and bits a weight, for benchmarks/embeddings.py.

`tt`, `r1` and quantised rows go through the converter's own code. The others are compared with and
nothing more: TT after a rotation to principal components, one tensor train of the whole matrix, the
singular value decomposition, product quantisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import lcm

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.converters.embed.rank_one import Pair
from plm_edge.converters.embed.spec import MOST, TensorTrain, Train, parse
from plm_edge.converters.embed.tensor_train import decompose, rebuild
from plm_edge.converters.gptq import grids, solve
from plm_edge.converters.tensors import Floats
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.engine import library

Q = GGMLQuantizationType
BLOCK = 512  # rows of cores at once
SAMPLE, STEPS, CENTRES = 8192, 6, 256  # of product quantisation


@dataclass(frozen=True)
class Made:
    """Ê, and what it takes: all bits that are stored, for each value of E."""

    rows: Floats
    bits: float


@dataclass(frozen=True)
class Seen:
    """What the output matrix was multiplied by, h, while a text was read.

    Attributes:
        weights: [width] the mean square of each column.
        factor: [width, width] of the sums of h h^T (`gptq.solve.factor`).
    """

    weights: Floats
    factor: Floats


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        weighted: it uses what a text says of columns.
        make: given E, [tokens, width], and that.
    """

    name: str
    weighted: bool
    make: Callable[[Floats, Seen], Made]


_quantizer: list[Quantizer] = []


def quantizer() -> Quantizer:
    """ggml's quantisers, loaded once."""
    if not _quantizer:
        _quantizer.append(Quantizer(library.load().ggml))
    return _quantizer[0]


def quantised(rows: Floats, type_: GGMLQuantizationType, weights: Floats | None) -> Made:
    """Rows in a type of ggml. Where they are no whole blocks, rows one after the other are: a file
    cannot have that, but the method is judged all the same."""
    block, size = GGML_QUANT_SIZES[type_]
    width = rows.shape[1]
    columns = lcm(block, width)
    if rows.size % columns:
        raise ValueError(f"{rows.shape} are no whole blocks of {type_.name}")
    repeated = None if weights is None else np.tile(weights, columns // width)
    data = np.empty(rows.size // block * size, np.uint8)
    values = np.ascontiguousarray(rows).reshape(-1)
    assert quantizer().encode(type_, values, columns, data, repeated)
    again = quantizer().decode(type_, data, np.empty(rows.size, np.float32))
    return Made(again.reshape(rows.shape), 8 * size / block)


def rounded(rows: Floats, type_: GGMLQuantizationType, seen: Seen) -> Made:
    """As `quantised`, each row rounded by the text (GPTQ)."""
    block, size = GGML_QUANT_SIZES[type_]
    width = rows.shape[1]
    columns = lcm(block, width)
    costs = np.tile((1 / np.square(np.diag(seen.factor))).astype(np.float32), columns // width)
    values = np.ascontiguousarray(rows).reshape(-1, columns)
    grid = grids.find(type_, values, costs, quantizer())
    zero, step = grid.zero.reshape(-1, width), grid.step.reshape(-1, width)
    again = np.empty_like(rows)
    for first in range(0, len(rows), 2048):
        part = slice(first, first + 2048)
        of_part = grids.Grid(type_, grid.raw[:0], zero[part], step[part], grid.most)
        left = np.ascontiguousarray(rows[part].T)
        again[part] = zero[part] + step[part] * solve.round_block(left, of_part, seen.factor)[0].T
    return Made(again, 8 * size / block)


def trains(rows: Floats, train: Train, type_: GGMLQuantizationType) -> Made:
    """Each row a tensor train of its own."""
    row = train.row(type_)
    again = np.empty_like(rows)
    bits = 0.0
    for first in range(0, len(rows), BLOCK):
        part = slice(first, first + BLOCK)
        cores = quantised(decompose(rows[part], train, row), type_, None)
        again[part] = rebuild(cores.rows, train)
        bits = cores.bits
    return Made(again, bits * row / rows.shape[1])


def rotated(rows: Floats, train: Train, type_: GGMLQuantizationType) -> Made:
    """Tensor trains of principal components; the rotation is stored in f16."""
    vectors = np.linalg.eigh(np.cov(rows, rowvar=False).astype(np.float64))[1][:, ::-1]
    turn = np.ascontiguousarray(vectors).astype(np.float16).astype(np.float32)
    made = trains(rows @ turn, train, type_)
    return Made(made.rows @ turn.T, made.bits + 16 * turn.size / rows.size)


def whole(rows: Floats, dims: tuple[tuple[int, int], ...], ratio: float) -> Made:
    """One tensor train of the whole matrix (a TT-matrix of three cores), in f16.

    Args:
        dims: factors of tokens and of width, three of each.
    """
    (v1, d1), (v2, d2), (v3, d3) = dims
    tensor = rows.reshape(v1, v2, v3, d1, d2, d3).transpose(0, 3, 1, 4, 2, 5)
    first, second, third = v1 * d1, v2 * d2, v3 * d3
    # the first bond keeps all; the rank of the second one is what the ratio leaves
    rank = int((rows.size / ratio - first * first) / (first * second + third))
    unfolded = tensor.reshape(first * second, third)
    values, vectors = np.linalg.eigh((unfolded.T @ unfolded).astype(np.float64))
    del values
    turn = vectors[:, ::-1][:, :rank].astype(np.float32)
    again = ((unfolded @ turn).astype(np.float16).astype(np.float32)) @ turn.T
    stored = first * first + first * rank * second + rank * third
    back = again.reshape(v1, d1, v2, d2, v3, d3).transpose(0, 2, 4, 1, 3, 5)
    return Made(np.ascontiguousarray(back).reshape(rows.shape), 16 * stored / rows.size)


def low_rank(rows: Floats, rank: int, weights: Floats | None) -> Made:
    """The singular value decomposition, in f16; with weights of E diag(√w)."""
    scale = np.ones(rows.shape[1]) if weights is None else np.sqrt(weights / weights.mean())
    products = (rows.T @ rows).astype(np.float64) * np.outer(scale, scale)
    turn = np.linalg.eigh(products)[1][:, ::-1][:, :rank]
    left = (rows @ (scale[:, None] * turn).astype(np.float32)).astype(np.float16)
    right = (turn / scale[:, None]).astype(np.float16).astype(np.float32)
    stored = rank * sum(rows.shape)
    return Made(left.astype(np.float32) @ right.T, 16 * stored / rows.size)


def product_quantised(rows: Floats, length: int) -> Made:
    """Product quantisation: for each `length` columns 256 vectors in f16, and a byte a row."""
    chosen = np.random.default_rng(0).permutation(len(rows))
    again = np.empty_like(rows)
    for first in range(0, rows.shape[1], length):
        part = np.ascontiguousarray(rows[:, first : first + length])
        sample = part[chosen[:SAMPLE]]
        centres = sample[:CENTRES].copy()
        for _ in range(STEPS):
            nearest = _nearest(sample, centres)
            counts = np.bincount(nearest, minlength=len(centres))
            sums = np.stack(
                [np.bincount(nearest, c, minlength=len(centres)) for c in sample.T], axis=1
            )
            used = counts > 0
            centres[used] = (sums[used] / counts[used, None]).astype(np.float32)
        centres = centres.astype(np.float16).astype(np.float32)
        again[:, first : first + length] = centres[_nearest(part, centres)]
    stored = 8 * rows.size // length + 16 * len(centres) * rows.shape[1]
    return Made(again, stored / rows.size)


def _nearest(points: Floats, centres: Floats) -> np.ndarray:
    half = 0.5 * np.square(centres).sum(1)
    return np.concatenate(
        [
            (half - points[at : at + 8192] @ centres.T).argmin(1)
            for at in range(0, len(points), 8192)
        ]
    )


Quantise = Callable[[Floats, GGMLQuantizationType, Seen], Made]


def plainly(rows: Floats, type_: GGMLQuantizationType, seen: Seen) -> Made:
    """`quantised`, whatever a text says."""
    del seen
    return quantised(rows, type_, None)


def weighed(rows: Floats, type_: GGMLQuantizationType, seen: Seen) -> Made:
    """`quantised` with the importance of columns."""
    return quantised(rows, type_, seen.weights)


def split(
    types: tuple[GGMLQuantizationType, ...], at: int, how: Quantise, rows: Floats, seen: Seen
) -> Made:
    """Tokens below `at` in the first type, the others in the second one, if there are two."""
    if len(types) == 1:
        return how(rows, types[0], seen)
    below, above = how(rows[:at], types[0], seen), how(rows[at:], types[1], seen)
    share = at / len(rows)
    bits = below.bits * share + above.bits * (1 - share)
    return Made(np.concatenate([below.rows, above.rows]), bits)


def rank_one(
    rest: Callable[[Floats, Seen], Made], rows: Floats, seen: Seen, weighs: bool = True
) -> Made:
    """A rank-1 pair, and what it leaves over."""
    pair = Pair.of(_blocks(rows), rows.shape[1], seen.weights if weighs else None)
    u = pair.u(rows)
    made = rest(pair.rest(rows, u), seen)
    return Made(made.rows + u[:, None] * pair.v, made.bits + 32 * sum(rows.shape) / rows.size)


def _blocks(rows: Floats) -> Iterator[Floats]:
    yield from (rows[at : at + 2048] for at in range(0, len(rows), 2048))


def methods(tokens: int, width: int, at: int) -> list[Method]:
    """All rows of the table for an embedding of this shape, split at token `at`."""

    def plain(name: str, make: Callable[[Floats], Made]) -> Method:
        return Method(name, False, lambda rows, _: make(rows))

    def fit(text: str) -> Train:
        spec = parse(text)
        assert isinstance(spec, TensorTrain)
        return spec.fit(width)

    square = fit("tt:ratio=2.0")
    half = fit(f"tt:ranks={square.ranks[0] * 2}")
    third = fit("tt:ratio=3.0")
    cube, shared = _cubes(tokens, width)
    alone = partial(split, (Q.Q4_K,), at, plainly)
    three = fit(f"tt:dims={'x'.join(map(str, cube))},ratio=1.7")
    many = fit(f"tt:dims={'x'.join(map(str, factors(width)))},ratio=2.0")
    made = [
        plain(_name("tt", square, "f16"), lambda rows: trains(rows, square, Q.F16)),
        plain(_name("tt", square, "q8_0"), lambda rows: trains(rows, square, Q.Q8_0)),
        plain(_name("tt", half, "q8_0"), lambda rows: trains(rows, half, Q.Q8_0)),
        plain(_name("tt", third, "q8_0"), lambda rows: trains(rows, third, Q.Q8_0)),
        plain(_name("tt", three, "q8_0"), lambda rows: trains(rows, three, Q.Q8_0)),
        plain(_name("tt", many, "q8_0"), lambda rows: trains(rows, many, Q.Q8_0)),
        plain(_name("tt after PCA", square, "q8_0"), lambda r: rotated(r, square, Q.Q8_0)),
        plain("tt of the whole matrix, 3 cores, f16", lambda rows: whole(rows, shared, 2.0)),
        plain(f"svd r{width // 2} f16", lambda rows: low_rank(rows, width // 2, None)),
        Method(f"svd r{width // 2} f16 im", True, lambda r, s: low_rank(r, width // 2, s.weights)),
        plain("pq of 2", lambda rows: product_quantised(rows, 2)),
        plain("pq of 4", lambda rows: product_quantised(rows, 4)),
        Method("r1 + q4_k", False, partial(rank_one, alone, weighs=False)),
    ]
    for type_ in (Q.Q6_K, Q.Q5_K, Q.Q4_K, Q.Q3_K, Q.Q2_K):
        made += _ways((type_,), at)
    for types in ((Q.Q6_K, Q.Q4_K), (Q.Q5_K, Q.Q3_K), (Q.Q4_K, Q.Q2_K)):
        made += _ways(types, at)
    return made


def _ways(types: tuple[GGMLQuantizationType, ...], at: int) -> list[Method]:
    """Rows in one type or two: by themselves, with importance and rounded by a text, without and
    with a rank-1 part."""
    names = [type_.name.lower() for type_ in types]
    name = names[0] if len(names) == 1 else f"{names[0]} below {at}, {names[1]}"
    made = [] if len(names) > 1 else [Method(name, False, partial(split, types, at, plainly))]
    for suffix, how in (("im", weighed), ("gptq", rounded)):
        rows = partial(split, types, at, how)
        made += [
            Method(f"{name} {suffix}", True, rows),
            Method(f"r1 + {name} {suffix}", True, partial(rank_one, rows)),
        ]
    return made


def _name(kind: str, train: Train, type_: str) -> str:
    dims, ranks = ("x".join(map(str, part)) for part in (train.dims, train.ranks))
    return f"{kind} {dims} r{ranks} {type_}, {train.ratio:.2f}x"


def factors(width: int, most: int = MOST) -> tuple[int, ...]:
    """Its prime factors, the smallest ones multiplied until there are no more than `most`."""
    found: list[int] = []
    left, at = width, 2
    while left > 1:
        if left % at:
            at += 1
        else:
            found.append(at)
            left //= at
    while len(found) > most:
        found = sorted([found[0] * found[1], *found[2:]])
    return tuple(found)


def _cubes(tokens: int, width: int) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Three factors of each, as equal as they can be."""

    def three(number: int) -> tuple[int, ...]:
        found = [
            tuple(sorted((a, b, number // a // b)))
            for a in range(1, round(number ** (1 / 3)) + 1)
            if number % a == 0
            for b in range(a, round((number / a) ** 0.5) + 1)
            if number // a % b == 0
        ]
        return min(found, key=sum)

    return three(width), tuple(zip(three(tokens), three(width), strict=True))
