"""What `--embed` makes of a model, known before anything is computed: names, sizes, keys."""

from __future__ import annotations

from dataclasses import dataclass

from gguf import GGMLQuantizationType

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.embed.spec import Quantised, Spec, TensorTrain, Train, fitting
from plm_edge.converters.embed.store import Part
from plm_edge.converters.keys import Keys, array, string, u32
from plm_edge.converters.tensors import Floats
from plm_edge.model.description import EMBED_KEY

VERSION = 1  # of the form, which the engine knows (plm-embed.cpp)
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
TRAINS = "token_embd.tt.weight"
U, V = "token_embd.r1.u", "token_embd.r1.v"
# by kind: of the tokens below the split, and of those from it on
SPLITS = {
    kind: (f"token_embd.{kind}.low.weight", f"token_embd.{kind}.high.weight")
    for kind in ("r1", "split")
}


@dataclass(frozen=True)
class Outline:
    """A plan.

    Attributes:
        kind: tt, r1, split, or type.
        train: of a tt.
        parts: tensors of a row a token.
        head: the output matrix to be made of the parts; None: it stays, or is the parts.
        before: bytes of the embedding as it is.
        keeps: the embedding as it is becomes the output matrix.
        values: of a row, for all that is stored of one token.
        width: values of a vector.
        tokens: the number of rows.
        swapped: types that do not fit the rows, and what they were replaced by.
    """

    kind: str
    train: Train | None
    parts: tuple[Part, ...]
    head: Part | None
    before: int
    keeps: bool
    width: int
    tokens: int
    swapped: tuple[tuple[GGMLQuantizationType, GGMLQuantizationType], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the new tensors that stand for the embedding."""
        return sum(part.size for part in self.parts) + 4 * self.pair

    @property
    def pair(self) -> int:
        """Values of a rank-1 part."""
        return self.tokens + self.width if self.kind == "r1" else 0

    @property
    def growth(self) -> int:
        """Bytes by which the weights grow; below zero where they shrink."""
        head = 0 if self.head is None else self.head.size
        return self.size + head - (0 if self.keeps else self.before)

    @property
    def ratio(self) -> float:
        """Values of the embedding for each value that is stored."""
        stored = sum(len(part.tokens) * part.row for part in self.parts) + self.pair
        if self.train:
            stored = self.tokens * self.train.values
        return self.tokens * self.width / stored

    def keys(self) -> Keys:
        """Returns what the file says of it."""
        keys: Keys = {}
        if self.kind != "type":  # one that every program reads
            keys = {EMBED_KEY + "version": u32(VERSION), EMBED_KEY + "kind": string(self.kind)}
        if self.train:
            keys[EMBED_KEY + "dims"] = array(self.train.dims)
            keys[EMBED_KEY + "ranks"] = array(self.train.ranks)
        elif len(self.parts) > 1:
            keys[EMBED_KEY + "split"] = u32(len(self.parts[0].tokens))
        weights = self.parts[0].weights
        if weights is not None:  # so that a row can be made anew to the same bits
            keys[EMBED_KEY + "importance"] = array(weights.tolist())
        return keys


def outline(
    spec: Spec,
    shape: tuple[int, int],
    present: tuple[GGMLQuantizationType, int],
    tied: bool,
    weights: Floats | None,
    factor: Floats | None = None,
) -> Outline:
    """Returns the plan for an embedding.

    Args:
        shape: (tokens, width).
        present: the type that the model's own embedding has, and its bytes.
        tied: whether it is the output matrix as well.
        weights: [width] the importance of each column; trains do not use it.
        factor: [width, width] of what the output matrix is multiplied by (`gptq.solve.factor`):
            rows are rounded by it.

    Raises:
        PlmEdgeError: there is none (code USAGE).
    """
    tokens, width = shape
    if isinstance(spec, TensorTrain):
        return _of_trains(spec, tokens, width, present, tied)
    return _of_rows(spec, tokens, width, present[1], weights, factor)


def _of_trains(
    spec: TensorTrain,
    tokens: int,
    width: int,
    present: tuple[GGMLQuantizationType, int],
    tied: bool,
) -> Outline:
    train = spec.fit(width)
    cores = Part(TRAINS, spec.cores, range(tokens), train.row(spec.cores))
    head = None
    if spec.head == "cores":
        if not tied:
            raise PlmEdgeError(
                "this model's output matrix is not its embedding",
                "head=cores makes the output matrix of the embedding's cores",
                "leave head=cores out",
                ExitCode.USAGE,
            )
        head = Part(OUTPUT, present[0], range(tokens), width)
    keeps = tied and head is None
    return Outline("tt", train, (cores,), head, present[1], keeps, width, tokens)


def _of_rows(
    spec: Quantised,
    tokens: int,
    width: int,
    before: int,
    weights: Floats | None,
    factor: Floats | None,
) -> Outline:
    low, high = spec.type, spec.high
    types = [low] if high is None else [low, high]
    fits = [fitting(type_, width) for type_ in types]
    swapped = tuple((a, b) for a, b in zip(types, fits, strict=True) if a != b)
    if spec.split is None:
        parts = [Part(EMBEDDING, fits[0], range(tokens), width, weights, factor)]
    else:
        if spec.split >= tokens:
            raise PlmEdgeError(
                f"the vocabulary cannot be split at {spec.split:,}",
                f"it has {tokens:,} tokens",
                f"give a token from 1 to {tokens - 1:,}",
                ExitCode.USAGE,
            )
        ranges = (range(spec.split), range(spec.split, tokens))
        parts = [
            Part(name, type_, span, width, weights, factor)
            for name, type_, span in zip(SPLITS[spec.kind], fits, ranges, strict=True)
        ]
    return Outline(spec.kind, None, tuple(parts), None, before, False, width, tokens, swapped)
