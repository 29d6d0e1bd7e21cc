"""A plugin is a file: codec, side, gates, memories, and the bytes of the base's tokens.

It is personal: whoever has it can read much of the text that it was made of.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.base import files
from plm_edge.spa import container, side
from plm_edge.spa.codec import Codec
from plm_edge.spa.frame import Rows
from plm_edge.spa.memories import Memories
from plm_edge.spa.memory import BREAK, Memory
from plm_edge.spa.mixture import N_FEATURES, PARTS, Gates, Likelihoods, features
from plm_edge.spa.nearest import Nearest, Places
from plm_edge.spa.reading import Reading

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Vocabulary:
    """The bytes of a base's tokens, so that a device without an engine can show text.

    Attributes:
        pieces: all of them, one after the other, uint8.
        ends: [n_vocab], int32: where each one ends.
        stops: tokens that end a text; -1, which is none, where there are none.
    """

    pieces: NDArray[np.uint8]
    ends: NDArray[np.int32]
    stops: NDArray[np.int32]

    def piece(self, token: int) -> bytes:
        """Returns a token's bytes."""
        start = int(self.ends[token - 1]) if token else 0
        return self.pieces[start : self.ends[token]].tobytes()

    def sha256(self) -> str:
        """Returns a hash of all tokens."""
        return hashlib.sha256(self.pieces.tobytes() + self.ends.tobytes()).hexdigest()


@dataclass(frozen=True)
class Plugin:
    """What a device has of its own.

    Attributes:
        base: SHA-256 of the base's file.
        codec: public; the server must have the same.
        weights: of the side; `up` is empty here, the matrix has it.
        matrix: [n_vocab, NARROW], int8: M by rows.
        row_scales: [n_vocab], float16.
        gates: how much side and memories count.
        stream: the personal text's tokens (memory.Memory).
        places: where the base was in it (nearest.Nearest).
        vocabulary: the base's tokens.
    """

    base: str
    codec: Codec
    weights: side.Weights
    matrix: NDArray[np.int8]
    row_scales: NDArray[np.float16]
    gates: Gates
    stream: NDArray[np.int32]
    places: Places
    vocabulary: Vocabulary

    @cached_property
    def memory(self) -> Memory:
        """The memory of `stream`."""
        return Memory(self.stream)

    @cached_property
    def nearest(self) -> Nearest:
        """The memory of `places`."""
        return Nearest(self.places, self.codec)

    @property
    def memories(self) -> Memories:
        """Both memories."""
        return Memories(self.memory, self.nearest)

    def changed(self, rows: Rows) -> tuple[side.Changed, Values]:
        """Returns what the side makes of the likeliest tokens, and r of each row."""
        out = side.forward(self.weights, rows.states()).out
        scales = self.row_scales[rows.ids].astype(np.float32)
        chosen = self.matrix[rows.ids].astype(np.float32)
        added = np.einsum("rkn,rn->rk", chosen, out, optimize=True) * scales
        return side.change(rows, added), out

    def judge(
        self, reading: Reading, memories: Memories | None = None
    ) -> tuple[Values, Likelihoods]:
        """Returns the gates' features of a reading's rows, and what each part says of its tokens.

        Args:
            memories: in place of the plugin's own.
        """
        said = (memories or self.memories).judge(reading)
        seen, side_p = [], []
        for start in range(0, len(reading), 1024):
            part = slice(start, start + 1024)
            rows, targets = reading.rows[part], reading.targets[part]
            changed, out = self.changed(rows)
            seen.append(features(rows, changed, out, said.recalls[part], said.sureness[part]))
            is_target = rows.ids == targets[:, None]
            inside = np.where(is_target, changed.top, 0).sum(-1)
            outside = reading.base[part] + changed.others
            side_p.append(np.exp(np.where(is_target.any(-1), inside, outside)))
        return np.concatenate(seen), said.beside(np.exp(reading.base), np.concatenate(side_p))

    def write(self, path: Path) -> None:
        """Write it to a file that its owner alone may read.

        Raises:
            OSError: it cannot be written.
        """
        keys: dict[str, str | list[int]] = {
            "base.sha256": self.base,
            "codec.sha256": self.codec.sha256(),
            "tokenizer.sha256": self.vocabulary.sha256(),
            "layers": list(self.codec.layers),
        }
        container.write(path, "spa", keys, self._tensors(), files.PRIVATE)

    def _tensors(self) -> dict[str, NDArray[Any]]:
        half = {
            f"side.{name}": array.astype(np.float16)
            for name, array in self.weights.arrays().items()
            if name != "up"
        }
        return {
            "codec.means": self.codec.means, "codec.bases": self.codec.bases, **half,
            "matrix": self.matrix, "row_scales": self.row_scales,
            "gates": self.gates.weights, "stream": self.stream,
            "places.codes": self.places.codes, "places.scales": self.places.scales,
            "places.tokens": self.places.tokens, "pieces": self.vocabulary.pieces.view(np.int8),
            "lengths": _lengths(self.vocabulary.ends), "stops": self.vocabulary.stops,
        }  # fmt: skip


def read(path: Path) -> Plugin:
    """Read a plugin; its large tensors stay in the file until they are asked for.

    Raises:
        PlmEdgeError: it is no plugin, of another version, or damaged.
    """
    fix = "make one: plm-edge spa train --base MODEL --text FOLDER --out plugin.gguf"
    keys, found = container.read(path, "spa", "SPA plugin", fix)
    try:
        weights = {
            field.name: np.array(found[f"side.{field.name}"], np.float32)
            for field in fields(side.Weights)
            if field.name != "up"
        }
        made = Plugin(
            keys["base.sha256"],
            Codec(tuple(keys["layers"]), found["codec.means"], found["codec.bases"]),
            side.Weights(**weights, up=np.empty((0, side.NARROW), np.float32)),
            found["matrix"],
            found["row_scales"],
            Gates(np.array(found["gates"])),
            np.array(found["stream"]),
            Places(*(np.array(found[f"places.{name}"]) for name in ("codes", "scales", "tokens"))),
            Vocabulary(
                found["pieces"].view(np.uint8), _ends(found["lengths"]), np.array(found["stops"])
            ),
        )
        named = keys["codec.sha256"]
    except KeyError as error:
        raise container.damaged(path, f"it lacks {error}") from error
    except (TypeError, ValueError, IndexError) as error:
        raise container.damaged(path, "a key or tensor of it is of another kind") from error
    if why := _defect(made):
        raise container.damaged(path, why)
    if keys.get("tokenizer.sha256") != made.vocabulary.sha256():
        raise container.damaged(path, "its tokens are not those that it names")
    if made.codec.sha256() != named:
        raise container.damaged(path, "its codec is not the one that it names")
    return made


def _defect(made: Plugin) -> str:
    """What of a plugin does not fit together, so that nothing fails later, in the midst of a text;
    empty: all does."""
    if why := made.codec.defect():
        return why
    states, width, tokens = made.codec.n_states, made.codec.width, len(made.vocabulary.ends)
    texts, count = vars(made.vocabulary), len(made.places.tokens)
    expected: dict[str, NDArray[Any]] = {
        **side.initial(states, width, 0, 0).arrays(),
        "matrix": np.empty((tokens, side.NARROW), np.int8),
        "row_scales": np.empty(tokens, np.float16),
        "gates": np.empty((len(PARTS), N_FEATURES), np.float32),
        "places.codes": np.empty((count, width), np.int8),
        "places.scales": np.empty(count, np.float16),
        "places.tokens": np.empty(count, np.int32),
        "pieces": np.empty(len(texts["pieces"]), np.uint8),
        "ends": np.empty(tokens, np.int32),
        "stops": np.empty(len(texts["stops"]), np.int32),
        "stream": np.empty(len(made.stream), np.int32),
    }
    found: dict[str, NDArray[Any]] = {
        **made.weights.arrays(), "matrix": made.matrix, "row_scales": made.row_scales,
        "gates": made.gates.weights, "places.codes": made.places.codes,
        "places.scales": made.places.scales, "places.tokens": made.places.tokens,
        "stream": made.stream, **texts,
    }  # fmt: skip
    for name, array in expected.items():
        if (found[name].shape, found[name].dtype) != (array.shape, array.dtype):
            return f"{name} is of another shape or type"
    ends, stream = np.diff(made.vocabulary.ends, prepend=0), made.stream
    if (ends < 0).any() or made.vocabulary.ends[-1] != len(made.vocabulary.pieces):
        return "its tokens do not fill their text"
    if not ((stream >= 0) & (stream < tokens) | (stream == BREAK)).all():
        return "its memory has tokens that the base does not have"
    followers = made.places.tokens
    if not count or not ((followers >= 0) & (followers < tokens)).all():
        return "its places have tokens that the base does not have, or there are none"
    if not re.fullmatch("[0-9a-f]{64}", str(made.base)):
        return "it names no base"
    return ""


def _lengths(ends: NDArray[np.int32]) -> NDArray[Any]:
    """Returns how long each token is, as it is stored: in a byte where all fit in one."""
    lengths = np.diff(ends, axis=0, prepend=np.zeros_like(ends[:1]))
    fit = lengths.size and 0 <= lengths.min() <= lengths.max() < 256
    return lengths.astype(np.uint8).view(np.int8) if fit else lengths


def _ends(lengths: NDArray[Any]) -> NDArray[np.int32]:
    if lengths.dtype == np.int8:
        lengths = lengths.view(np.uint8)
    return np.cumsum(lengths, axis=0, dtype=np.int32)
