"""A GGUF can be a source too: of another type, another layout, or by another tool.

Its tensors are offered in the checkpoint's form, whatever layout they lie in; a tensor that is
turned twice on its way is not turned at all (`layout.Form.of`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.gguf_writer import GGUFValue

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters import planes
from plm_edge.converters.keys import Keys
from plm_edge.converters.plan.config import PlmConfig
from plm_edge.converters.plan.layout import EDGE_VERSION, form
from plm_edge.converters.plan.plm import TensorSpec, tensor_specs
from plm_edge.converters.tensors import Bytes, Tensor, columns
from plm_edge.converters.transposed_tensor import TransposedTensor
from plm_edge.engine import library
from plm_edge.model import ggml_types, gguf_file, loadable
from plm_edge.model.description import ARCH, PREFIX, Layout, describe
from plm_edge.model.gguf_file import COARSE

_TYPES = {name: GGMLQuantizationType(n) for n, (name, _, _) in ggml_types.TENSOR_TYPES.items()
          if n in GGMLQuantizationType._value2member_map_}  # fmt: skip
_VALUE_TYPES = {
    **{"u8": GGUFValueType.UINT8, "i8": GGUFValueType.INT8, "u16": GGUFValueType.UINT16},
    **{"i16": GGUFValueType.INT16, "u32": GGUFValueType.UINT32, "i32": GGUFValueType.INT32},
    **{"f32": GGUFValueType.FLOAT32, "bool": GGUFValueType.BOOL, "str": GGUFValueType.STRING},
    **{"u64": GGUFValueType.UINT64, "i64": GGUFValueType.INT64, "f64": GGUFValueType.FLOAT64},
}
# What the writer sets itself, and what is true of the source's own file only.
_DROPPED = ("general.architecture", "general.alignment", "split.")


@dataclass(frozen=True)
class GgufTensor:
    """A `tensors.Tensor` in an open GGUF. `offset` in bytes from the start of the file."""

    path: Path
    fd: int
    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        block, size = GGML_QUANT_SIZES[self.type]
        return columns(self.shape) // block * size

    def read_rows(self, first: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        self.read_bytes(first * self.row_bytes, into)

    def read_bytes(self, start: int, into: Bytes) -> None:
        """See `tensors.Tensor`."""
        start += self.offset
        try:
            count = files.read_at(self.fd, into, start)
        except OSError as error:
            raise PlmEdgeError(
                f"cannot read {self.path.name}",
                f"{self.path} at byte {start}: {error.strerror}",
                "check the disk, or get the file again",
            ) from error
        if count < into.nbytes:
            raise PlmEdgeError(
                f"{self.path.name} ended while it was read",
                f"{self.path} had byte {start + count} when it was opened",
                "leave the file alone while it is converted, and start again",
            )


def tensor_of(content: gguf_file.GGUFFile, entry: gguf_file.Tensor, fd: int) -> GgufTensor:
    """Returns a tensor of an open file.

    Raises:
        PlmEdgeError: it has a type that the gguf package does not know.
    """
    if entry.type not in _TYPES:
        raise _unfit(content.path, f"{entry.name} has the type {entry.type}")
    shape = tuple(reversed(entry.shape))
    return GgufTensor(content.path, fd, entry.name, _TYPES[entry.type], shape, entry.offset)


@contextmanager
def open_tensors(path: Path) -> Iterator[tuple[gguf_file.GGUFFile, dict[str, GgufTensor]]]:
    """Open a GGUF of any architecture: its header, and its tensors by name, in order.

    Raises:
        PlmEdgeError: it is no GGUF, none that the engine can load, or one of several files.
    """
    content = gguf_file.read(path)
    loadable.check(content)
    _check_is_whole(content)
    with path.open("rb", buffering=0) as file:
        tensors = [tensor_of(content, entry, file.fileno()) for entry in content.tensors]
        yield content, {tensor.name: tensor for tensor in tensors}


def hashes(content: gguf_file.GGUFFile, names: Sequence[str]) -> list[str] | None:
    """Returns the hashes that the file has of these tensors; None where it has none, or not as
    many as tensors."""
    stored = describe(content).tensor_hashes
    if stored is None or stored.length != len(content.tensors):
        return None
    by_name = dict(zip((t.name for t in content.tensors), stored.values(), strict=True))
    return [by_name[name] for name in names]


def read_config(content: gguf_file.GGUFFile) -> PlmConfig:
    """Returns the model's sizes, from its keys.

    Raises:
        PlmEdgeError: it is no PLM, or a key is missing or cannot be.
    """
    if content.architecture != ARCH:
        raise PlmEdgeError(
            f"{content.path.name} is a {content.architecture or 'GGUF without architecture'}",
            f"general.architecture should say {ARCH}: only PLM models are converted",
            "for other architectures use llama.cpp's own llama-quantize",
        )

    def size(name: str) -> int:
        value = content.arch_key(name)
        if type(value) is not int or not 0 < value < 2**24:
            raise _unfit(content.path, f"{ARCH}.{name} is {value!r}")
        return value

    def number(name: str) -> float:
        value = content.arch_key(name)
        if type(value) is not float or not 0 < value < math.inf:
            raise _unfit(content.path, f"{ARCH}.{name} is {value!r}")
        return value

    rope, key = size("rope.dimension_count"), size("attention.key_length")
    if key <= rope:
        raise _unfit(content.path, f"{ARCH}.attention.key_length is {key}, no more than {rope}")
    return PlmConfig(
        layers=size("block_count"),
        hidden=size("embedding_length"),
        heads=size("attention.head_count"),
        nope=key - rope,
        rope=rope,
        v=size("attention.value_length"),
        kv_lora=size("attention.kv_lora_rank"),
        ffn=size("feed_forward_length"),
        vocab=size("vocab_size"),
        max_positions=size("context_length"),
        rope_theta=number("rope.freq_base"),
        eps=number("attention.layer_norm_rms_epsilon"),
        tied=True,
    )


def read_layout(content: gguf_file.GGUFFile) -> Layout:
    """Returns the layout that a GGUF of PLM is in.

    Raises:
        PlmEdgeError: it has an edge layout of a later version.
    """
    said = describe(content)
    if said.layout == "edge" and said.layout_version not in range(1, EDGE_VERSION + 1):
        raise _unfit(
            content.path,
            f"its edge layout has version {said.layout_version}, known are 1 to {EDGE_VERSION}",
        )
    return said.layout


def match_tensors(
    config: PlmConfig, content: gguf_file.GGUFFile, layout: Layout, fd: int
) -> list[tuple[TensorSpec, Tensor]]:
    """Pair each tensor of a PLM with the file's, exhaustively both ways.

    Raises:
        PlmEdgeError: a tensor is missing, unknown, or has another shape than it should.
    """
    specs = tensor_specs(config)
    # what a calibration added is of the output matrix as it is there (quality/calibration.py)
    own = [tensor for tensor in content.tensors if not tensor.name.startswith(COARSE)]
    stored = {tensor.name: tensor for tensor in own}
    in_planes = describe(content).planes
    form_in_planes = planes.Planes(library.load().ggml) if in_planes else None
    if describe(content).embedding:
        raise _unfit(content.path, "its embedding is in parts (--embed)")
    for name in {spec.name for spec in specs} ^ set(stored):
        has = "has" if name in stored else "does not have"
        raise _unfit(content.path, f"it {has} {name}, and its keys say otherwise")
    pairs: list[tuple[TensorSpec, Tensor]] = []
    for spec in specs:
        entry, lies = stored[spec.name], form(spec, layout)
        shape = tuple(reversed(entry.shape))
        if shape != lies.shape:
            raise _unfit(
                content.path,
                f"{spec.name} has the shape {list(shape)}, its keys make it {list(lies.shape)}",
            )
        tensor: Tensor = tensor_of(content, entry, fd)
        if form_in_planes and spec.name in in_planes:
            if not planes.fits(tensor.type, shape):
                raise _unfit(content.path, f"{spec.name} cannot be in planes, as its keys say")
            tensor = planes.PlanesTensor(tensor, form_in_planes)
        pairs.append((spec, TransposedTensor(tensor) if lies.transposed else tensor))
    return pairs


def model_keys(content: gguf_file.GGUFFile) -> Keys:
    """Returns the file's keys, as far as they are about the model."""
    return _keys(content, (PREFIX, *_DROPPED))


def all_keys(content: gguf_file.GGUFFile) -> Keys:
    """Returns the file's keys, but for those that a writer sets itself."""
    return _keys(content, _DROPPED)


def _check_is_whole(content: gguf_file.GGUFFile) -> None:
    if content.keys.get("split.count", 1) != 1:
        raise _unfit(
            content.path,
            "it is one of several files (split.count)",
            "make one of them first: llama-gguf-split --merge",
        )


def _keys(content: gguf_file.GGUFFile, dropped: tuple[str, ...]) -> Keys:
    _check_is_whole(content)
    keys: Keys = {}
    for name, value in content.keys.items():
        if name.startswith(dropped):
            continue
        if not isinstance(value, gguf_file.Array):
            keys[name] = GGUFValue(value, _VALUE_TYPES[content.key_types[name]])
        elif value.length:  # the writer has no form for an empty array
            if value.type not in _VALUE_TYPES:
                raise _unfit(content.path, f"{name} is an array of {value.type}")
            keys[name] = GGUFValue(
                value.values(), GGUFValueType.ARRAY, sub_type=_VALUE_TYPES[value.type]
            )
    return keys


def _unfit(
    path: Path,
    why: str,
    fix: str = "convert the original checkpoint, or a GGUF of PLM that runs in llama.cpp",
) -> PlmEdgeError:
    return PlmEdgeError(f"{path.name} cannot be converted", why, fix)
