"""This module reads a GGUF's header: keys, tensor names, shapes, types and extents, no weights.

The file may be half a download or built to do harm, so nothing in it is believed before it is
checked: every length against the bytes that are there, every product against 64 bits, every
tensor's extent against the end of the file. Long arrays (a vocabulary has 150,000 strings) are
walked once to find their end and are decoded only when somebody asks for them.
"""

from __future__ import annotations

import mmap
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.model.ggml_types import TENSOR_TYPES

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
COARSE = "output.coarse."
"""How the names of the tensors begin that a calibration adds (`converters/head`): another form of
the output matrix, and no weights of their own."""
MAX_STRING = 1 << 26  # 64 MiB; the longest real ones are chat templates
MAX_HEADER = 1 << 28  # 256 MiB; vocabularies take some 10
MAX_DEPTH = 4  # arrays of arrays exist in the format, not in the wild
MAX_DIMS = 4

# GGUF value types: struct code of the scalars.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS[12] = "d"
_STRING, _ARRAY = 8, 9
_TYPE_NAMES = {
    0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool",
    8: "str", 9: "arr", 10: "u64", 11: "i64", 12: "f64",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor's entry in the header.

    Attributes:
        shape: in ggml's order: the first length is the contiguous one.
        type: ggml's name, such as q4_K.
        offset: of its data, in bytes from the start of the file.
        n_bytes: of its data.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    n_bytes: int

    @property
    def n_values(self) -> int:
        """The product of its lengths."""
        total = 1
        for length in self.shape:
            total *= length
        return total


@dataclass(frozen=True)
class Array:
    """A key's array: its element type and length. `values` decodes it from the file on demand."""

    type: str
    length: int
    _file: Path = field(repr=False)
    _offset: int = field(repr=False)
    _code: int = field(repr=False)

    def values(self, limit: int | None = None) -> list[Any]:
        """Reads the elements from the file.

        Args:
            limit: how many at most; None: all.
        """
        count = self.length if limit is None else min(limit, self.length)
        with _Reader(self._file) as reader:
            reader.at = self._offset
            return [reader.value(self._code, 1) for _ in range(count)]

    def raw_strings(self) -> list[bytes]:
        """Reads all elements of an array of strings, as the bytes that stand in the file.

        Raises:
            ValueError: the elements are no strings.
        """
        if self._code != _STRING:
            raise ValueError(f"an array of {self.type}")
        with _Reader(self._file) as reader:
            return reader.strings(self._offset, self.length)


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF's header, checked.

    Attributes:
        version: of the format.
        keys: scalars, strings and `Array`s by name.
        key_types: the type of each key by name: u32, str, arr.
        tensors: in the order of the file.
        file_bytes: the file's size.
    """

    path: Path
    version: int
    keys: dict[str, Any]
    key_types: dict[str, str]
    tensors: tuple[Tensor, ...]
    file_bytes: int

    @property
    def architecture(self) -> str:
        """general.architecture; empty where it is missing."""
        return str(self.keys.get("general.architecture", ""))

    @cached_property
    def tensor_bytes(self) -> int:
        """Bytes of all weights in this file."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @cached_property
    def n_params(self) -> int:
        """Number of all weights in this file."""
        return sum(t.n_values for t in self.tensors if not t.name.startswith(COARSE))

    def arch_key(self, name: str, default: Any = None) -> Any:
        """Returns the value of `{architecture}.{name}`."""
        return self.keys.get(f"{self.architecture}.{name}", default)


def is_gguf(path: Path) -> bool:
    """Says whether the file starts as a GGUF does; False when it cannot be read."""
    try:
        if not path.is_file():  # to open a pipe waits until somebody writes to it
            return False
        with path.open("rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


def read(path: Path) -> GGUFFile:
    """Read and check the header of the GGUF at `path`.

    Raises:
        PlmEdgeError: missing, no file, not a GGUF, cut short, or damaged (code INPUT).
    """
    try:
        _check_is_file(path)
        with _Reader(path) as reader:
            return _read(path, reader)
    except OSError as error:
        raise PlmEdgeError(
            f"cannot read {path}",
            error.strerror or str(error),
            "check the path and its permissions",
        ) from error


def _check_is_file(path: Path) -> None:
    """Refuse what has no end and no place to go back to.

    Raises:
        OSError: nothing is there.
        PlmEdgeError: it is a pipe, a socket or a device.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket or a device"
        raise PlmEdgeError(
            f"{path} is not a file",
            f"it is {kind}, and a model is read at many places at once",
            "write it to a file first, and give that",
        )


def read_beginning(path: Path, n_bytes: int) -> GGUFFile | None:
    """Read the header of a GGUF of which only the first bytes are at `path` yet.

    Args:
        n_bytes: the size of the whole file.

    Returns:
        None when more of it is needed.

    Raises:
        PlmEdgeError: as of `read`.
    """
    try:
        with _Beginning(path) as reader:
            reader.size = n_bytes
            return _read(path, reader)
    except _MoreNeeded:
        return None
    except OSError as error:
        raise PlmEdgeError(f"cannot read {path}", str(error), "check the disk") from error


def _read(path: Path, reader: _Reader) -> GGUFFile:
    if reader.size < 4 or reader.data[:4] != MAGIC:
        raise _not_gguf(path, reader)
    reader.at = 4
    version = reader.number("I")
    if version not in VERSIONS:
        swapped = struct.unpack(">I", struct.pack("<I", version))[0]
        why = (
            "it is big-endian, and this machine is little-endian"
            if swapped in VERSIONS
            else f"it is GGUF version {version}; this program reads "
            + " and ".join(map(str, VERSIONS))
        )
        raise PlmEdgeError(f"{path} cannot be read", why, "get or convert the model again")
    n_tensors, n_keys = reader.number("Q"), reader.number("Q")
    # The smallest key takes 13 bytes and the smallest tensor entry 32: refuse absurd counts
    # before looping over them.
    reader.need(n_keys * 13 + n_tensors * 32, f"{n_keys} keys and {n_tensors} tensors")
    keys, key_types = _read_keys(reader, n_keys)
    alignment = keys.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise reader.damaged(f"general.alignment is {alignment!r}, not a power of two")
    tensors = _read_tensors(reader, n_tensors, alignment)
    return GGUFFile(path, version, keys, key_types, tensors, reader.size)


def _read_keys(reader: _Reader, count: int) -> tuple[dict[str, Any], dict[str, str]]:
    keys: dict[str, Any] = {}
    types: dict[str, str] = {}
    for _ in range(count):
        name = reader.string()
        if name in keys:
            raise reader.damaged(f"the key {name!r} appears twice")
        code = reader.number("I")
        keys[name] = reader.value(code)
        types[name] = _TYPE_NAMES.get(code, "?")
    return keys, types


def _read_tensors(reader: _Reader, count: int, alignment: int) -> tuple[Tensor, ...]:
    entries = []
    seen = set()
    for _ in range(count):
        name = reader.string()
        if name in seen:
            raise reader.damaged(f"the tensor {name!r} appears twice")
        seen.add(name)
        n_dims = reader.number("I")
        if not 1 <= n_dims <= MAX_DIMS:
            raise reader.damaged(f"tensor {name!r} has {n_dims} dimensions")
        shape = tuple(reader.number("Q") for _ in range(n_dims))
        code, offset = reader.number("I"), reader.number("Q")
        entries.append((name, shape, code, offset))
    data_start = (reader.at + alignment - 1) // alignment * alignment
    return tuple(_check_tensor(reader, data_start, alignment, *entry) for entry in entries)


def _check_tensor(
    reader: _Reader,
    data_start: int,
    alignment: int,
    name: str,
    shape: tuple[int, ...],
    code: int,
    offset: int,
) -> Tensor:
    if code not in TENSOR_TYPES:
        raise PlmEdgeError(
            f"{reader.path} holds a tensor type that this program does not know",
            f"tensor {name!r} has ggml type number {code}",
            "use a newer plm-edge, or convert the model again with a known --quant",
        )
    type_name, block, block_bytes = TENSOR_TYPES[code]
    n_values = 1
    for length in shape:
        n_values *= length
        if length == 0 or n_values >= 1 << 62:
            raise reader.damaged(f"tensor {name!r} has the shape {list(shape)}")
    if shape[0] % block:
        raise reader.damaged(
            f"tensor {name!r}: rows of {shape[0]} are not whole {type_name} blocks"
        )
    if offset % alignment:
        raise reader.damaged(f"tensor {name!r} starts at {offset}, not a multiple of {alignment}")
    n_bytes = n_values // block * block_bytes
    end = data_start + offset + n_bytes
    if end > reader.size:
        raise _cut_short(reader.path, reader.size, f"tensor {name!r} ends at byte {end:,}")
    return Tensor(name, shape, type_name, data_start + offset, n_bytes)


class _Reader:
    """A cursor over the mapped file that never reads past its end. Only as much is mapped as a
    header may have: address space can be limited, and models are large."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = 0
        self._file = path.open("rb")
        try:
            self.size = self._file.seek(0, 2)
            self.data: mmap.mmap | bytes = b""
            if self.size:
                length = min(self.size, MAX_HEADER)
                self.data = mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        if isinstance(self.data, mmap.mmap):
            self.data.close()
        self._file.close()

    def need(self, n_bytes: int, what: str) -> None:
        """Raise unless `n_bytes` more bytes are there."""
        if n_bytes > len(self.data) - self.at:
            if n_bytes <= self.size - self.at:
                raise self.runs_on()
            raise _cut_short(
                self.path, self.size, f"{what} would take {n_bytes:,} bytes from {self.at:,} on"
            )

    def number(self, code: str) -> Any:
        """The number of this struct code at the cursor."""
        n_bytes = struct.calcsize("<" + code)
        self.need(n_bytes, "a number of its header")
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += n_bytes
        return value

    def string(self) -> str:
        """The string at the cursor."""
        length = self._string_length()
        raw = self.data[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8", errors="backslashreplace")

    def _string_length(self) -> int:
        length: int = self.number("Q")
        if length > MAX_STRING:
            raise self.damaged(f"a string of {length:,} bytes at {self.at:,}")
        self.need(length, "a string of its header")
        return length

    def strings(self, at: int, count: int) -> list[bytes]:
        """The bytes of `count` strings from `at` on."""
        unpack, data, last = struct.Struct("<Q").unpack_from, self.data, len(self.data) - 8
        found = []
        for _ in range(count):
            if at > last:
                break
            start = at + 8
            at = start + unpack(data, at)[0]
            found.append(data[start:at])
        if len(found) < count or at > len(self.data):  # it was whole when it was read first
            raise self.damaged("it changed while it was read")
        return found

    def value(self, code: int, depth: int = 0) -> Any:
        """One value of GGUF type `code` at the cursor."""
        if code in _SCALARS:
            return self.number(_SCALARS[code])
        if code == _STRING:
            return self.string()
        if code == _ARRAY and depth < MAX_DEPTH:
            element = self.number("I")
            length = self.number("Q")
            start = self.at
            self._skip(element, length, depth + 1)
            return Array(_TYPE_NAMES.get(element, "?"), length, self.path, start, element)
        raise self.damaged(f"a value of unknown type {code} at {self.at:,}")

    def _skip(self, code: int, length: int, depth: int) -> None:
        """Move past `length` array elements without decoding them."""
        if code in _SCALARS:
            n_bytes = length * struct.calcsize("<" + _SCALARS[code])
            self.need(n_bytes, f"an array of {length:,} numbers")
            self.at += n_bytes
        elif code == _STRING:
            self.need(length * 8, f"an array of {length:,} strings")
            self._skip_strings(length)
        elif code == _ARRAY:
            self.need(length * 12, f"an array of {length:,} arrays")
            for _ in range(length):
                self.value(code, depth)
        else:
            raise self.damaged(f"an array of unknown type {code} at {self.at:,}")

    def _skip_strings(self, length: int) -> None:
        # The hot loop: 300,000 strings in PLM's vocabulary and merges.
        unpack, data, at = struct.Struct("<Q").unpack_from, self.data, self.at
        last = len(self.data) - 8
        for _ in range(length):
            if at > last:
                break
            at += 8 + unpack(data, at)[0]
        else:
            if at <= len(self.data):
                self.at = at
                return
        if at <= self.size and len(self.data) < self.size:
            raise self.runs_on()
        raise _cut_short(self.path, self.size, f"an array of {length:,} strings runs past the end")

    def runs_on(self) -> Exception:
        """The error for a header that does not end where a header must."""
        return self.damaged(f"its header has more than {MAX_HEADER:,} bytes")

    def damaged(self, why: str) -> PlmEdgeError:
        """The error for a header that cannot be."""
        return PlmEdgeError(
            f"{self.path} is damaged",
            why,
            "get the file again and compare its size or checksum with the source's",
        )


class _MoreNeeded(Exception):
    """The header goes on after the bytes that are here."""


class _Beginning(_Reader):
    """A reader of a file whose rest has not come yet."""

    def runs_on(self) -> Exception:
        return super().runs_on() if len(self.data) >= MAX_HEADER else _MoreNeeded()


def _cut_short(path: Path, size: int, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{path} is cut short: half a download, or a disk that ran full",
        f"the file ends at byte {size:,}, but {why}",
        "get or convert the file again",
    )


def _not_gguf(path: Path, reader: _Reader) -> PlmEdgeError:
    head = bytes(reader.data[:512])
    if not head:
        why = "the file is empty"
    elif head.startswith(b"version https://git-lfs"):
        why = "it is a git-lfs pointer: the file itself was not downloaded"
    elif head[:2] == b"PK":
        why = "it is a zip archive or a pickled PyTorch checkpoint"
    elif head[8:9] == b"{":
        why = "it looks like safetensors; those are converted with their folder"
    elif head.lstrip()[:1] in (b"<", b"{"):
        why = "it is a text file (a web page or JSON, saved in place of the model?)"
    else:
        why = f"it starts with {head[:4]!r}, not with 'GGUF'"
    return PlmEdgeError(
        f"{path} is not a GGUF model",
        why,
        "give a .gguf file, or make one: plm-edge convert FOLDER",
    )


def shards(path: Path) -> Iterator[Path]:
    """Returns all files of a split GGUF (name-00001-of-00003.gguf), or `path` alone."""
    stem, _, count = path.stem.rpartition("-of-")
    base, _, index = stem.rpartition("-")
    if not (base and count.isdigit() and index.isdigit() and len(index) == len(count) == 5):
        yield path
        return
    for number in range(1, int(count) + 1):
        yield path.with_name(f"{base}-{number:05d}-of-{count}.gguf")
