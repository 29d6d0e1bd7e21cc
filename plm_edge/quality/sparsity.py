"""How sparse a model's MLP is on a text: squared ReLU leaves most neurons at zero.

A zero neuron's row of W_down need not be read. What decides how much that saves is the share of
zeros, and, for several tokens computed together, whether they leave the same neurons at zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.progress import NoProgress, Progress
from plm_edge.engine.options import Options
from plm_edge.model import gguf_file
from plm_edge.quality import activations
from plm_edge.quality.activations import Activations, Inputs

_DOWN = re.compile(r"blk\.(\d+)\.ffn_down\.weight")
HOT = 0.5  # a neuron is hot if it is active at this share of the tokens or more
COLD = 0.01  # and cold at this share or less
SEQUENCES = (2, 4, 8)  # how many are computed together
PARTS = 8  # of a chunk, for the shares by position
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Layer:
    """One layer's neurons.

    Attributes:
        neurons: rows of W_down.
        zeros: share that is zero, mean over tokens, 0 to 1.
        by_position: the same by eighths of a chunk, its beginning first.
        hot, cold, never: share of the neurons that are active at half of the tokens or more, at one
            in a hundred or fewer, and at none.
        from_last: share of a token's active neurons that the token before had active too.
        by_chance: what that share would be if each neuron were active at random, as often as it is.
        together: for 2, 4 and 8 sequences, the share of rows that none of them needs; empty
            where the text has fewer chunks.
    """

    layer: int
    neurons: int
    zeros: float
    by_position: tuple[float, ...]
    hot: float
    cold: float
    never: float
    from_last: float
    by_chance: float
    together: dict[int, float]


@dataclass(frozen=True)
class Sparsity:
    """All layers, and the whole model.

    Attributes:
        zeros: share of all neurons, mean over tokens.
        parameters: of all tensors.
        activated: parameters that a token needs, mean: all but the rows of W_down whose neuron is
            zero (the PLM paper's measure).
        tokens: that were read, in chunks of `n_ctx`.
    """

    layers: tuple[Layer, ...]
    zeros: float
    parameters: int
    activated: float
    chunks: int
    n_ctx: int
    tokens: int


def measure(
    model: Path,
    words: str,
    n_ctx: int = 512,
    most: int | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Sparsity:
    """Read a text through a model and count which neurons are zero.

    Args:
        words: the text.
        n_ctx: tokens of a chunk; each is begun anew.
        most: chunks; None takes all.
        options: how the model is computed.
        progress: told of chunks.

    Raises:
        PlmEdgeError: the text is too short, or the model cannot be computed or has no such MLP.
        KeyboardInterrupt: `options.stop` said so.
    """
    neurons = _Neurons(n_ctx)
    chunks = len(
        activations.read(
            model, words, n_ctx, most, options or Options(), neurons, progress or NoProgress()
        )
    )
    if not neurons.counts:
        raise PlmEdgeError(
            f"{model.name} has no MLP that could be sparse",
            "no product with a weight blk.N.ffn_down was computed",
            "use a model such as PLM",
        )
    layers = tuple(count.layer(index) for index, count in sorted(neurons.counts.items()))
    tensors = gguf_file.read(model).tensors
    parameters = sum(int(np.prod(tensor.shape)) for tensor in tensors)
    down = {tensor.name: int(np.prod(tensor.shape)) for tensor in tensors}
    spared = sum(down[f"blk.{one.layer}.ffn_down.weight"] * one.zeros for one in layers)
    total = sum(one.neurons for one in layers)
    return Sparsity(
        layers,
        sum(one.zeros * one.neurons for one in layers) / total,
        parameters,
        parameters - spared,
        chunks,
        n_ctx,
        chunks * n_ctx,
    )


class _Neurons(Activations):
    def __init__(self, n_ctx: int) -> None:
        self._n_ctx = n_ctx
        self.counts: dict[int, _Counts] = {}

    def wants_input(self, weight: str) -> bool:
        return _DOWN.fullmatch(weight) is not None

    def take_input(self, weight: str, inputs: Inputs) -> None:
        match = _DOWN.fullmatch(weight)
        assert match is not None
        layer = int(match[1])
        if layer not in self.counts:
            self.counts[layer] = _Counts(layer, inputs.shape[1], self._n_ctx)
        self.counts[layer].add(inputs != 0)


class _Counts:
    """Counts of one layer, fed with the tokens of chunk after chunk."""

    def __init__(self, layer: int, neurons: int, n_ctx: int) -> None:
        self._layer, self._n_ctx = layer, n_ctx
        self._active = np.zeros(neurons, np.int64)  # tokens at which a neuron is active
        self._at = np.zeros(n_ctx, np.int64)  # active neurons by position, over all chunks
        self._tokens = self._position = 0
        self._shared = self._shareable = 0
        self._last: Mask | None = None
        # which neurons the chunks of a group have active, by position and in bits
        self._unions: dict[int, NDArray[np.uint8]] = {}
        self._spared: dict[int, list[float]] = {count: [] for count in SEQUENCES}
        self._chunk: list[NDArray[np.uint8]] = []
        self._chunks = 0

    def add(self, active: Mask) -> None:
        """Take the next tokens of the chunk, [token, neuron]."""
        self._active += active.sum(0)
        of_token = active.sum(1)
        self._at[self._position : self._position + len(active)] += of_token
        before = active[:-1] if self._last is None else np.vstack((self._last, active[:-1]))
        later = active[1:] if self._last is None else active
        self._shared += int((before & later).sum())
        self._shareable += int(later.sum())
        self._last = active[-1:]
        self._chunk.append(np.packbits(active, axis=1))
        self._tokens += len(active)
        self._position += len(active)
        if self._position == self._n_ctx:
            self._end()

    def _end(self) -> None:
        mine = np.concatenate(self._chunk)
        neurons = len(self._active)
        for count in SEQUENCES:
            first = self._chunks % count == 0
            union = mine if first else self._unions[count] | mine
            self._unions[count] = union
            if self._chunks % count == count - 1:
                read = np.unpackbits(union, axis=1, count=neurons).mean()
                self._spared[count].append(1 - float(read))
        self._chunks += 1
        self._chunk, self._position, self._last = [], 0, None

    def layer(self, index: int) -> Layer:
        share = self._active / self._tokens
        neurons = len(share)
        parts = np.array_split(self._at / (self._chunks * neurons), PARTS)
        active = share.sum()
        return Layer(
            layer=index,
            neurons=neurons,
            zeros=float(1 - share.mean()),
            by_position=tuple(float(1 - part.mean()) for part in parts),
            hot=float((share >= HOT).mean()),
            cold=float((share <= COLD).mean()),
            never=float((self._active == 0).mean()),
            from_last=self._shared / self._shareable if self._shareable else 0.0,
            by_chance=float(np.square(share).sum() / active) if active else 0.0,
            together={n: float(np.mean(found)) for n, found in self._spared.items() if found},
        )
