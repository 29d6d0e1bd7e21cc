"""What `--embed` takes.

tt:ratio=2.0
tt:dims=32x64,ranks=10,cores=f16|q8_0,head=keep|cores
type=q4_k
split=8192:q5_k/q3_k
r1
r1,type=q4_k
r1,split=8192:q5_k/q3_k
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, prod
from typing import TypeVar

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from plm_edge.base.errors import ExitCode, PlmEdgeError

Q = GGMLQuantizationType
_Choice = TypeVar("_Choice")
FEWEST, MOST = 2, 11  # cores of a token
CORES = {"f16": Q.F16, "q8_0": Q.Q8_0}
HEADS = ("keep", "cores")
RATIO = 2.0  # where neither a ratio nor ranks are given: what the papers call safe
TYPES = {
    name: GGMLQuantizationType[name.upper()]
    for name in ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q4_0", "iq4_nl", "q5_0", "q8_0")
}
# Of rows that are no whole blocks of 256: as many bits a weight or a little more.
_NARROW = {
    **dict.fromkeys((Q.Q2_K, Q.Q3_K, Q.Q4_K), Q.IQ4_NL),
    **{Q.Q5_K: Q.Q5_0, Q.Q6_K: Q.Q8_0},
}
_FIX = "see plm-edge convert --help, or docs/embeddings.md"


@dataclass(frozen=True)
class Train:
    """A shape of tensor trains.

    Attributes:
        dims: I_1 … I_N, whose product is the length of a vector.
        ranks: r_1 … r_N-1.
    """

    dims: tuple[int, ...]
    ranks: tuple[int, ...]

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """(r_k-1, I_k, r_k) of each core."""
        before, after = (1, *self.ranks), (*self.ranks, 1)
        return list(zip(before, self.dims, after, strict=True))

    @property
    def values(self) -> int:
        """Values of all cores of a token."""
        return sum(map(prod, self.shapes))

    @property
    def ratio(self) -> float:
        """Values of a vector for each value of its cores: the papers' η."""
        return prod(self.dims) / self.values

    @property
    def is_possible(self) -> bool:
        """Whether no rank is beyond what the lengths and the rank before it allow."""
        bounds = _bounds(self.dims)
        return all(
            1 <= rank <= min(bound, before * dim)
            for (before, dim, rank), bound in zip(self.shapes, bounds, strict=False)
        )

    def row(self, type_: GGMLQuantizationType) -> int:
        """Values of a token's row in the file: whole blocks of the type."""
        block = GGML_QUANT_SIZES[type_][0]
        return -(-self.values // block) * block


@dataclass(frozen=True)
class TensorTrain:
    """`tt`, as a person asked for it; what is None is chosen to fit the model.

    Attributes:
        ranks: of each bond, or one for all of them, which bonds that allow less take less of.
        ratio: the element ratio to reach.
        cores: the type that they are stored in.
        head: keep: a tied output matrix stays as it is; cores: it is made from the cores, too.
    """

    dims: tuple[int, ...] | None = None
    ranks: tuple[int, ...] | None = None
    ratio: float | None = None
    cores: GGMLQuantizationType = Q.F16
    head: str = "keep"

    def fit(self, width: int) -> Train:
        """Returns the shape for vectors of this length.

        Raises:
            PlmEdgeError: there is none.
        """
        dims = self.dims or _squarest(width)
        if prod(dims) != width:
            raise _usage(
                f"vectors of {width} values cannot be of the shape {_times(dims)}",
                f"that has {prod(dims):,} values",
                f"give dims whose product is {width}, such as {_times(_squarest(width))}",
            )
        bounds = _bounds(dims)
        if self.ranks is None:
            return _of_ratio(dims, bounds, RATIO if self.ratio is None else self.ratio)
        ranks = self.ranks
        if len(ranks) == 1:
            if ranks[0] > max(bounds):
                raise _too_high(dims, bounds, ranks)
            ranks = tuple(min(ranks[0], bound) for bound in bounds)
        if len(ranks) != len(bounds):
            raise _usage(
                f"{len(ranks)} ranks do not fit {len(dims)} dims",
                f"between {_times(dims)} there are {len(bounds)}",
                f"give {len(bounds)} as ranks=AxB, or one for all",
            )
        train = Train(dims, ranks)
        if not train.is_possible:
            raise _too_high(dims, bounds, ranks)
        return train


@dataclass(frozen=True)
class Quantised:
    """`type`, `split` and `r1`, as a person asked for it: rows in types of ggml.

    Attributes:
        type: of the rows, or of what a rank-1 part leaves over of them.
        split: the first token of those whose rows have the type `high`; None: all have `type`.
        share: instead, the percentage of a text's tokens that shall be below the split.
        pair: a rank-1 part is taken off first.
    """

    type: GGMLQuantizationType = Q.Q4_K
    split: int | None = None
    high: GGMLQuantizationType | None = None
    share: int | None = None
    pair: bool = False

    @property
    def kind(self) -> str:
        """What it is called: r1, split, or type."""
        if self.pair:
            return "r1"
        return "type" if self.high is None else "split"


Spec = TensorTrain | Quantised


def parse(text: str) -> Spec:
    """Returns what was asked for.

    Raises:
        PlmEdgeError: it cannot be (code USAGE).
    """
    kind, rest = [*re.split("[:,]", text.strip(), maxsplit=1), ""][:2]
    if "=" in kind:
        kind, rest = "", text.strip()
    options: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not value or name in options:
            raise _wrong(text, f"{part!r} is no NAME=VALUE, or comes twice")
        options[name] = value
    if kind == "tt":
        return _tensor_train(text, options)
    if kind == "r1" or (not kind and options):
        return _quantised(text, options, pair=kind == "r1")
    raise _wrong(text, f"{kind!r} is none of type=…, split=…, r1 and tt")


def fitting(type_: GGMLQuantizationType, width: int) -> GGMLQuantizationType:
    """Returns the type for rows of this many values: the one that is wanted, or one of small
    blocks.

    Raises:
        PlmEdgeError: neither fits.
    """
    for candidate in (type_, _NARROW.get(type_, type_)):
        if width % GGML_QUANT_SIZES[candidate][0] == 0:
            return candidate
    raise _usage(
        f"vectors of {width} values have no quantised form",
        f"{type_.name.lower()} stores {GGML_QUANT_SIZES[type_][0]} values together, and others 32",
        "leave --embed out",
    )


def _tensor_train(text: str, options: dict[str, str]) -> TensorTrain:
    _known(text, options, ("dims", "ranks", "ratio", "cores", "head"))
    dims = _numbers(text, options["dims"]) if "dims" in options else None
    ranks = _numbers(text, options["ranks"]) if "ranks" in options else None
    if dims and (not FEWEST <= len(dims) <= MOST or min(dims) < 2):
        raise _wrong(text, f"dims should be {FEWEST} to {MOST} numbers from 2 on, as in 32x64")
    ratio = None
    if "ratio" in options:
        if ranks:
            raise _wrong(text, "ratio and ranks say the same; give one of them")
        try:
            ratio = float(options["ratio"])
        except ValueError:
            ratio = 0.0
        if not 0 < ratio < float("inf"):
            raise _wrong(text, "ratio should be a number above 0, as in ratio=2.0")
    return TensorTrain(
        dims,
        ranks,
        ratio,
        _one_of(text, "cores", options.get("cores", "f16"), CORES),
        _one_of(text, "head", options.get("head", "keep"), {head: head for head in HEADS}),
    )


def _quantised(text: str, options: dict[str, str], *, pair: bool) -> Quantised:
    _known(text, options, ("type", "split"))
    if "split" not in options:
        type_ = _one_of(text, "type", options.get("type", "q4_k"), TYPES)
        return Quantised(type_, pair=pair)
    if "type" in options:
        raise _wrong(text, "split names the types of both parts; leave type out")
    match = re.fullmatch(r"(\d+)(%?):(\w+)/(\w+)", options["split"])
    if not match or int(match[1]) < 1 or (match[2] and int(match[1]) > 99):
        raise _wrong(
            text, "split should be TOKEN:TYPE/TYPE or SHARE%:TYPE/TYPE, as in split=8192:q5_k/q3_k"
        )
    low, high = (_one_of(text, "split", name, TYPES) for name in match.groups()[2:])
    at = int(match[1])
    split, share = (None, at) if match[2] else (at, None)
    return Quantised(low, split, high, share, pair)


def _known(text: str, options: dict[str, str], names: tuple[str, ...]) -> None:
    for name in options:
        if name not in names:
            raise _wrong(text, f"{name!r} is none of {', '.join(names)}")


def _one_of(text: str, name: str, value: str, choices: Mapping[str, _Choice]) -> _Choice:
    if value not in choices:
        raise _wrong(text, f"{name}: {value!r} is none of {', '.join(choices)}")
    return choices[value]


def _numbers(text: str, value: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d{1,6}(x\d{1,6})*", value):
        raise _wrong(text, f"{value!r} should be numbers, as in 32x64")
    numbers = tuple(map(int, value.split("x")))
    if min(numbers) < 1:
        raise _wrong(text, f"{value!r} has a 0")
    return numbers


def _squarest(width: int) -> tuple[int, int]:
    """The two factors that are nearest to each other, the smaller one first."""
    first = next(n for n in range(int(width**0.5), 0, -1) if width % n == 0)
    return first, width // first


def _bounds(dims: tuple[int, ...]) -> tuple[int, ...]:
    """The rank of each bond from which on nothing is lost."""
    return tuple(min(prod(dims[:k]), prod(dims[k:])) for k in range(1, len(dims)))


def _of_ratio(dims: tuple[int, ...], bounds: tuple[int, ...], ratio: float) -> Train:
    """The highest rank for all bonds that reaches the ratio."""
    for rank in range(max(bounds), 0, -1):
        train = Train(dims, tuple(min(rank, bound) for bound in bounds))
        if train.ratio >= ratio:
            return train
    most = floor(100 * Train(dims, (1,) * len(bounds)).ratio) / 100
    raise _usage(
        f"no cores of the shape {_times(dims)} are {ratio:g} times smaller",
        f"with all ranks 1 they are {most:.2f} times smaller",
        f"give a ratio of {most:.2f} or less, or other dims",
    )


def _too_high(
    dims: tuple[int, ...], bounds: tuple[int, ...], ranks: tuple[int, ...]
) -> PlmEdgeError:
    return _usage(
        f"cores of the shape {_times(dims)} cannot have the ranks {_times(ranks)}",
        f"from {_times(bounds)} on nothing is lost, and more would only be zeros",
        f"give ranks of at most {_times(bounds)}",
    )


def _times(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))


def _wrong(text: str, why: str) -> PlmEdgeError:
    return _usage(f"--embed {text} says nothing that can be made", why, _FIX)


def _usage(what: str, why: str, fix: str) -> PlmEdgeError:
    return PlmEdgeError(what, why, fix, ExitCode.USAGE)
