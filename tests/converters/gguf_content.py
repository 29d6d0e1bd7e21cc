"""A GGUF's content, in a form that compares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, dequantize
from numpy.typing import NDArray


@dataclass(frozen=True)
class StoredTensor:
    """`shape` is (rows, columns), `data` as they lie in the file."""

    type: GGMLQuantizationType
    shape: tuple[int, ...]
    data: NDArray[Any]

    @property
    def values(self) -> NDArray[np.float32]:
        """[rows, columns]"""
        return dequantize(self.data, self.type)

    @property
    def identity(self) -> tuple[str, tuple[int, ...], str]:
        """What equal tensors have in common: type, shape and the hash of their bytes."""
        return self.type.name, self.shape, hashlib.sha256(self.data.tobytes()).hexdigest()


@dataclass(frozen=True)
class Content:
    """`keys`: name -> (type names, value)."""

    keys: dict[str, tuple[list[str], Any]]
    tensors: dict[str, StoredTensor]

    def value(self, key: str) -> Any:
        return self.keys[key][1]


def read(path: Path) -> Content:
    reader = GGUFReader(path)
    keys = {
        name: ([kind.name for kind in field.types], field.contents())
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    tensors = {
        tensor.name: StoredTensor(
            tensor.tensor_type,
            tuple(reversed(tensor.shape.tolist())),
            tensor.data,
        )
        for tensor in reader.tensors
    }
    return Content(keys, tensors)


def assert_same(ours: Content, theirs: Content, also: frozenset[str] = frozenset()) -> None:
    """Same keys with same types and values, same tensors bit for bit. `also`: keys that only ours
    may have."""
    assert {k: v for k, v in ours.keys.items() if k not in also} == theirs.keys
    assert {n: t.identity for n, t in ours.tensors.items()} == {
        n: t.identity for n, t in theirs.tensors.items()
    }
