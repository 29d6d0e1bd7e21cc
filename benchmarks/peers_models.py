"""GGUFs with synthetic weights in the shapes of benchmarks/peers_shapes.py.

    python -m benchmarks.peers_models OUT NAME        (benchmarks/peers.py calls it)

A product's speed depends on sizes and types, not on values, so these are noise, and each file says
so (`plm_edge.synthetic`, general.name, its own name). The writer is the converter's: threads make,
quantise and write blocks of rows, and memory stays at a few of these. The vocabulary is invented:
as many tokens as the model has, and for a byte-level one a merge for each of them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from gguf import GGMLQuantizationType, TokenType

from benchmarks.peers_shapes import SHAPES, Shape
from benchmarks.refusal import three_lines
from benchmarks.synthetic import DEVIATION, noise
from plm_edge.base.progress import NoProgress
from plm_edge.converters.keys import Keys, array, boolean, string, u32
from plm_edge.converters.plan.tokenizer import tokenizer_keys
from plm_edge.converters.tensors import Bytes
from plm_edge.converters.write.gguf_header import TensorInfo, plan_file
from plm_edge.converters.write.pipeline import Job, run
from plm_edge.converters.write.quantize import Quantizer
from plm_edge.converters.write.writer import AtomicFile
from plm_edge.engine import library
from plm_edge.machine.threads import default_jobs
from plm_edge.model.description import SYNTHETIC_KEY
from testkit.checkpoints import PADDING_IDS, special_ids, tokenizer_json, write_tokenizer

Q = GGMLQuantizationType
BYTES = 256
SPECIAL_PIECES = {"<pad>": "padding", "<eos>": "eos", "<bos>": "bos", "<unk>": "unknown"}


@dataclass(frozen=True)
class Noise:
    """A tensor that is made when it is read. `key`: seed and number, which decide the values."""

    name: str
    shape: tuple[int, ...]
    key: tuple[int, int]
    type: Q = Q.F32

    def read_rows(self, first: int, into: Bytes) -> None:
        values = into.view(np.float32)
        noise([*self.key, first], values)
        values *= DEVIATION


@dataclass(frozen=True)
class Vector:
    """A tensor of given values."""

    name: str
    values: tuple[float, ...]
    type: Q = Q.F32

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.values),)

    def read_rows(self, first: int, into: Bytes) -> None:
        into.view(np.float32)[:] = self.values


def write(path: Path, shape: Shape, seed: int = 0, matrices: Q | None = None) -> None:
    """Writes a model; the file is there when it is whole.

    Args:
        matrices: the type of each of them, instead of the mixture.

    Raises:
        PlmEdgeError: it cannot be written, or the engine is not built.
    """
    tensors = shape.tensors()
    if matrices is not None:
        tensors = [
            one if len(one.shape) == 1 else TensorInfo(one.name, one.shape, matrices)
            for one in tensors
        ]
    keys = shape.keys() | vocabulary(shape) | {SYNTHETIC_KEY: boolean(True)}
    plan = plan_file(shape.arch, keys, tensors)
    jobs = [
        Job(_source(shape, info, (seed, i)), info, offset, None)
        for i, (info, offset) in enumerate(zip(tensors, plan.offsets, strict=True))
    ]
    with AtomicFile(path, plan.size) as file:
        file.write_at(0, plan.header)
        run(jobs, Quantizer(library.load().ggml), file, default_jobs(), NoProgress())
        file.commit()


def _source(shape: Shape, info: TensorInfo, key: tuple[int, int]) -> Noise | Vector:
    if shape.rope and info.name == "rope_freqs.weight":
        return Vector(info.name, tuple(shape.rope.factors(shape.theta, shape.head)))
    if "norm" in info.name:
        return Vector(info.name, (1.0,) * info.elements)
    return Noise(info.name, info.shape, key)


def vocabulary(shape: Shape) -> Keys:
    """The tokenizer.* keys of an invented vocabulary of the shape's size and kind."""
    return _byte_level(shape.vocab, shape.pre) if shape.pre else _sentence_pieces(shape.vocab)


def _byte_level(size: int, pre: str) -> Keys:
    with TemporaryDirectory() as place:
        write_tokenizer(Path(place), tokenizer_json(size), special_ids(size), 0)
        keys = tokenizer_keys(Path(place), size, {})
    return keys | {"tokenizer.ggml.pre": string(pre)}


def _sentence_pieces(size: int) -> Keys:
    ordinary = size - len(SPECIAL_PIECES) - BYTES
    larger = BYTES + ordinary + len(special_ids(size)) + PADDING_IDS
    pieces = list(tokenizer_json(larger)["model"]["vocab"])[BYTES:]  # type: ignore[index]
    kinds = [TokenType.UNKNOWN if name == "<unk>" else TokenType.CONTROL for name in SPECIAL_PIECES]
    kinds += [TokenType.BYTE] * BYTES + [TokenType.NORMAL] * ordinary
    tokens = [*SPECIAL_PIECES, *(f"<0x{byte:02X}>" for byte in range(BYTES))]
    ids = {
        f"tokenizer.ggml.{name}_token_id": u32(i) for i, name in enumerate(SPECIAL_PIECES.values())
    }
    return ids | {
        "tokenizer.ggml.model": string("llama"),
        "tokenizer.ggml.pre": string("default"),
        "tokenizer.ggml.tokens": array(tokens + [piece.replace("Ġ", "▁") for piece in pieces]),
        "tokenizer.ggml.scores": array([0.0] * len(tokens) + [-float(i) for i in range(ordinary)]),
        "tokenizer.ggml.token_type": array([int(kind) for kind in kinds]),
        "tokenizer.ggml.add_space_prefix": boolean(False),
    }


def main() -> None:
    names = {shape.name: shape for shape in SHAPES}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("name", choices=names)
    given = parser.parse_args()
    write(given.out, names[given.name])


if __name__ == "__main__":
    with three_lines():
        main()
