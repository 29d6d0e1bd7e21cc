"""How sparse a model's MLP is on a text: squared ReLU leaves most neurons at zero.

A zero neuron's row of W_down need not be read. What decides how much that saves is the share of
zeros, and, for several tokens computed together, whether they leave the same neurons at zero.
An interrupted reading goes on where it was, to the same figures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import gguf_file
from plm_edge.quality.activations import Inputs
from plm_edge.quality.sums import Reading, State, Sums

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
        parameters: of all tensors; a coarse form of the output matrix is a copy, and has none.
        activated: parameters that a token needs, mean: all but the rows of W_down whose neuron is
            zero (the PLM paper's measure).
        tokens: that were read, in chunks of `n_ctx`.
        resumed: chunks that an earlier, interrupted reading had read.
    """

    layers: tuple[Layer, ...]
    zeros: float
    parameters: int
    activated: float
    chunks: int
    n_ctx: int
    tokens: int
    resumed: int


def measure(model: Path, words: str, how: Reading | None = None) -> Sparsity:
    """Read a text through a model and count which neurons are zero.

    Args:
        words: the text.

    Raises:
        PlmEdgeError: the text is too short, or the model cannot be computed or has no such MLP.
        KeyboardInterrupt: `how.options.stop` said so; call it again to go on.
    """
    how = how or Reading()
    neurons = _Neurons(model, how.n_ctx)
    chunks = len(neurons.read(words, how))
    neurons.kept.forget()
    if not neurons.counts:
        raise PlmEdgeError(
            f"{model.name} has no MLP that could be sparse",
            "no product with a weight blk.N.ffn_down was computed",
            "use a model such as PLM",
        )
    layers = tuple(count.layer(index) for index, count in sorted(neurons.counts.items()))
    content = gguf_file.read(model)
    sizes = {tensor.name: tensor.n_values for tensor in content.tensors}
    spared = sum(sizes[f"blk.{one.layer}.ffn_down.weight"] * one.zeros for one in layers)
    total = sum(one.neurons for one in layers)
    return Sparsity(
        layers,
        sum(one.zeros * one.neurons for one in layers) / total,
        content.n_params,
        content.n_params - spared,
        chunks,
        how.n_ctx,
        chunks * how.n_ctx,
        neurons.resumed,
    )


class _Neurons(Sums):
    what = "sparsity"

    def __init__(self, model: Path, n_ctx: int) -> None:
        super().__init__(model)
        self._n_ctx = n_ctx
        self.counts: dict[int, _Counts] = {}

    def state(self) -> State:
        return {
            f"{layer} {name}": values
            for layer, counts in self.counts.items()
            for name, values in counts.state().items()
        }

    def restore(self, state: State) -> None:
        for layer in sorted({int(name.split()[0]) for name in state}):
            prefix = f"{layer} "
            mine = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
            self.counts[layer] = _Counts.of(mine)

    def wants_input(self, weight: str) -> bool:
        return _DOWN.fullmatch(weight) is not None

    def take_input(self, weight: str, inputs: Inputs) -> None:
        match = _DOWN.fullmatch(weight)
        assert match is not None
        layer = int(match[1])
        if layer not in self.counts:
            self.counts[layer] = _Counts(inputs.shape[1], self._n_ctx)
        self.counts[layer].add(inputs != 0)


class _Counts:
    """Counts of one layer, fed with the tokens of chunk after chunk."""

    def __init__(self, neurons: int, n_ctx: int) -> None:
        self._n_ctx = n_ctx
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

    def state(self) -> State:
        """Returns all counts, between two chunks."""
        counts = [self._tokens, self._chunks, self._shared, self._shareable]
        return {
            "active": self._active,
            "at": self._at,
            "counts": np.array(counts),
            **{f"union {count}": union for count, union in self._unions.items()},
            **{f"spared {count}": np.array(found) for count, found in self._spared.items()},
        }

    @classmethod
    def of(cls, state: State) -> _Counts:
        """Returns the counts whose `state` it was."""
        made = cls(len(state["active"]), len(state["at"]))
        made._active, made._at = state["active"], state["at"]
        made._tokens, made._chunks, made._shared, made._shareable = state["counts"].tolist()
        for count in SEQUENCES:
            made._spared[count] = state[f"spared {count}"].tolist()
            if f"union {count}" in state:
                made._unions[count] = state[f"union {count}"]
        return made

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
                del self._unions[count]
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
