"""A GGUF's content, in a form that compares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, dequantize
from numpy.typing import NDArray

from plm_edge.model.description import LAYOUT_VERSION_KEY, PREFIX
from testkit import planes


@dataclass(frozen=True)
class StoredTensor:
    """`shape` is (rows, columns), `data` as they lie in the file, planes joined."""

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
            planes.data_of(reader, tensor),
        )
        for tensor in reader.tensors
    }
    return Content(keys, tensors)


def about_model(content: Content) -> dict[str, tuple[list[str], Any]]:
    """The keys without those that say who made the file, and from what."""
    return {
        name: key
        for name, key in content.keys.items()
        if not name.startswith(PREFIX) or name == LAYOUT_VERSION_KEY
    }


def assert_same(ours: Content, theirs: Content, also: frozenset[str] = frozenset()) -> None:
    """Same keys with same types and values, same tensors bit for bit; keys about who made a file
    are left out. `also`: further keys that only ours may have."""
    assert {k: v for k, v in about_model(ours).items() if k not in also} == about_model(theirs)
    assert {n: t.identity for n, t in ours.tensors.items()} == {
        n: t.identity for n, t in theirs.tensors.items()
    }
