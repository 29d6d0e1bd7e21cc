"""The codec makes a state of n_embd values 64 small ones, the same for everybody.

It is a principal component analysis of public text: what the server computes with it says nothing
of the person whose plugin reads it. A state x, divided by its root mean square, becomes
W (x - mean), each value of about unit variance on the public text; then int8 with a scale a state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plm_edge.base import files
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.spa import container

STATES = 8
WIDTH = 64
Values = NDArray[np.float32]


def choose_layers(header: GGUFFile) -> list[int]:
    """Returns whose inputs are read, at most 7, from a quarter of the depth to the last layer; the
    final state is read as well."""
    count = int(header.arch_key("block_count"))
    places = np.linspace(count / 4, count - 1, min(STATES - 1, max(1, count - 1)))
    return sorted({round(float(place)) for place in places})


@dataclass(frozen=True)
class Codec:
    """What makes a base's states small.

    Attributes:
        layers: whose inputs are read; the final state follows them.
        means: [states, n_embd], float16.
        bases: [states, WIDTH, n_embd], float16.
    """

    layers: tuple[int, ...]
    means: NDArray[np.float16]
    bases: NDArray[np.float16]

    @property
    def n_states(self) -> int:
        """States of a row."""
        return len(self.means)

    @property
    def width(self) -> int:
        """Values of a state."""
        return int(self.bases.shape[1])

    def defect(self) -> str:
        """Returns what does not fit together; empty: all does. A file may hold anything."""
        if self.means.ndim != 2 or self.bases.ndim != 3:
            return "its codec has tensors of another rank"
        if self.bases.shape[::2] != self.means.shape or len(self.layers) + 1 != len(self.means):
            return "the parts of its codec do not fit together"
        if any(array.dtype != np.float16 for array in (self.means, self.bases)):
            return "its codec is of another type"
        return ""

    def sha256(self) -> str:
        """Returns its hash: whoever has another one reads other values."""
        digest = hashlib.sha256(f"{self.layers} {self.bases.shape}".encode())
        digest.update(np.ascontiguousarray(self.means).tobytes())
        digest.update(np.ascontiguousarray(self.bases).tobytes())
        return digest.hexdigest()

    def encode(self, states: Values) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
        """Returns codes [rows, states, WIDTH] and scales [rows, states].

        Args:
            states: [rows, states, n_embd], as `engine.states.States` reads them.
        """
        means, bases = self._exact
        centred = _normed(states) - means
        values = np.matmul(centred.transpose(1, 0, 2), bases).transpose(1, 0, 2)
        scales = (np.abs(values).max(-1) / 127).astype(np.float16)
        safe = np.maximum(scales.astype(np.float32), 1e-8)[..., None]
        return np.clip(np.rint(values / safe), -127, 127).astype(np.int8), scales

    @cached_property
    def _exact(self) -> tuple[Values, Values]:
        """Means, and bases [states, n_embd, WIDTH], in float32: each token is encoded."""
        bases = np.ascontiguousarray(self.bases.transpose(0, 2, 1), np.float32)
        return self.means.astype(np.float32), bases

    def write(self, path: Path, base: str) -> None:
        """Write it to a file.

        Args:
            base: SHA-256 of the base's file.

        Raises:
            OSError: it cannot be written.
        """
        keys: dict[str, str | list[int]] = {
            "base.sha256": base,
            "codec.sha256": self.sha256(),
            "layers": list(self.layers),
        }
        tensors: container.Tensors = {"codec.means": self.means, "codec.bases": self.bases}
        container.write(path, "spa-codec", keys, tensors, files.PUBLIC)


def read(path: Path) -> tuple[Codec, str]:
    """Returns a codec from its file, and the SHA-256 of the base that it is for.

    Raises:
        PlmEdgeError: it is none, of another version, or damaged.
    """
    keys, found = container.read(
        path, "spa-codec", "SPA codec", "make one: plm-edge spa codec --base MODEL"
    )
    try:
        means, bases = np.array(found["codec.means"]), np.array(found["codec.bases"])
        made, base = Codec(tuple(keys["layers"]), means, bases), str(keys["base.sha256"])
        named = keys["codec.sha256"]
    except KeyError as error:
        raise container.damaged(path, f"it lacks {error}") from error
    except TypeError as error:
        raise container.damaged(path, "a key of it is of another type") from error
    if why := made.defect():
        raise container.damaged(path, why)
    if made.sha256() != named:
        raise container.damaged(path, "it is not the one that it names")
    return made, base


def make(states: Values, layers: Sequence[int]) -> Codec:
    """Returns the codec of public states, [rows, states, n_embd]."""
    normed = _normed(states)
    means = normed.mean(0)
    width = min(WIDTH, normed.shape[2], len(normed) - 1)
    bases = []
    for index in range(normed.shape[1]):
        centred = normed[:, index] - means[index]
        variance, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
        kept = vectors[:, ::-1][:, :width]
        # The sign of a vector is arbitrary: one rule, so that the same text makes the same codec.
        kept = kept * np.sign(kept[np.abs(kept).argmax(0), np.arange(width)])
        bases.append((kept / np.sqrt(np.maximum(variance[::-1][:width], 1e-6))).T)
    return Codec(tuple(layers), means.astype(np.float16), np.stack(bases).astype(np.float16))


def _normed(states: Values) -> Values:
    made: Values = states / np.sqrt(np.square(states).mean(-1, keepdims=True) + 1e-6)
    return made
