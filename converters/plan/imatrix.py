"""An importance matrix says of each column of a weight matrix how much it matters.

llama-imatrix runs a text through the model and writes the mean square of what each column is
multiplied by. Both of its formats are read: a GGUF with the sums and the counts, and the older
.dat, in which the sums are divided already.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf.gguf_writer import GGUFValue

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.keys import Keys, string, u32
from plm_edge.converters.tensors import Floats
from plm_edge.model import gguf_file

_SUMS, _COUNTS = ".in_sum2", ".counts"
_KEYS = ("imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size")
# llama-quantize keeps texts about the matrix in 127 bytes.
_LONGEST = 127
_MAX_ENTRIES = 1 << 20


@dataclass(frozen=True)
class ImportanceMatrix:
    """How much each column of each weight matrix matters, from llama-imatrix.

    Attributes:
        entries: a tensor's name in a GGUF, and the importance of each of its columns.
        file: as the person gave it.
        datasets: the texts that it was made from.
        chunks: how many pieces of these texts.
    """

    file: str
    entries: Mapping[str, Floats]
    datasets: tuple[str, ...]
    chunks: int

    def keys(self) -> Keys:
        """Returns what llama-quantize writes about the matrix that it used."""
        keys = {"quantize.imatrix.file": _text(self.file)}
        if self.datasets:
            keys["quantize.imatrix.dataset"] = _text(self.datasets[0])
        keys["quantize.imatrix.entries_count"] = u32(len(self.entries))
        if self.chunks > 0:
            keys["quantize.imatrix.chunks_count"] = u32(self.chunks)
        return keys

    def weights(self, name: str, columns: int) -> Floats | None:
        """Returns the importance of each of the tensor's columns, or None when the matrix has no
        entry.

        Raises:
            PlmEdgeError: the entry is for another number of columns.
        """
        entry = self.entries.get(name)
        if entry is None or entry.size == columns:
            return entry
        raise PlmEdgeError(
            f"the importance matrix does not fit {name}",
            f"{self.file} has {entry.size} values for it, and its rows have {columns}",
            "make the matrix with a GGUF of this very model",
        )


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read a file of llama-imatrix, in either format.

    Raises:
        PlmEdgeError: missing, damaged, of another kind, or with a value that is no number.
    """
    if not path.is_file():
        raise PlmEdgeError(
            f"there is no importance matrix {path}",
            "--imatrix names no file",
            "check the path, or make one: plm-edge imatrix MODEL-q8_0.gguf --text TEXT",
        )
    try:
        matrix = _from_gguf(path) if gguf_file.is_gguf(path) else _from_dat(path)
    except OSError as error:
        raise PlmEdgeError(
            f"cannot read {path.name}", f"{path}: {error.strerror}", "check its permissions"
        ) from error
    if not matrix.entries:
        raise _unfit(path, "it has no entries")
    for name, entry in matrix.entries.items():
        if not np.isfinite(entry).all():
            raise _unfit(path, f"its entry for {name} has a value that is no finite number")
    return matrix


def _from_gguf(path: Path) -> ImportanceMatrix:
    content = gguf_file.read(path)
    if missing := [key for key in _KEYS if key not in content.keys]:
        raise _unfit(path, f"it has no key {missing[0]}")
    data = np.memmap(path, np.uint8, "r")
    found: dict[str, dict[str, Floats]] = {}
    for tensor in content.tensors:
        for suffix in (_SUMS, _COUNTS):
            if not tensor.name.endswith(suffix):
                continue
            if tensor.type != "f32":
                raise _unfit(path, f"{tensor.name} is {tensor.type}, not f32")
            raw = data[tensor.offset : tensor.offset + tensor.n_bytes]
            values = np.frombuffer(raw.tobytes(), np.float32)
            found.setdefault(tensor.name.removesuffix(suffix), {})[suffix] = values
    entries = {}
    for name, parts in found.items():
        if len(parts) != 2:
            raise _unfit(path, f"it has only one of {name}{_SUMS} and {name}{_COUNTS}")
        entries[name] = _mean(path, name, parts[_SUMS], parts[_COUNTS])
    datasets = content.keys[_KEYS[0]]
    texts = datasets.values() if isinstance(datasets, gguf_file.Array) else []
    chunks = content.keys[_KEYS[1]]
    if not isinstance(chunks, int):
        raise _unfit(path, f"{_KEYS[1]} is {chunks!r}")
    return ImportanceMatrix(str(path), entries, tuple(map(str, texts)), chunks)


def _mean(path: Path, name: str, sums: Floats, counts: Floats) -> Floats:
    """Sums divided by counts, of which an expert's columns share one; 1 where nothing was seen."""
    if not np.isfinite(counts).all() or sums.size % counts.size:
        raise _unfit(path, f"{name}{_COUNTS} does not fit {name}{_SUMS}")
    number = np.rint(counts).astype(np.float32)[:, None]
    rows = sums.reshape(counts.size, -1)
    return (
        np.where(number > 0, rows / np.where(number > 0, number, 1), 1).astype(np.float32).ravel()
    )


def _from_dat(path: Path) -> ImportanceMatrix:
    """Entries of name, number of calls, values; then, in newer files, chunks and the text's name.
    All numbers are 32-bit, strings have their length before them."""
    data = path.read_bytes()
    at = 0

    def number() -> int:
        nonlocal at
        at += 4
        return int(struct.unpack_from("<i", data, at - 4)[0])

    def taken(size: int) -> bytes:
        nonlocal at
        if not 0 <= size <= len(data) - at:
            raise _unfit(path, f"it ends at byte {len(data)}, in the middle of an entry")
        at += size
        return data[at - size : at]

    try:
        count = number()
        if not 0 < count <= _MAX_ENTRIES:
            raise _unfit(path, "it is neither a GGUF nor the older .dat of llama-imatrix")
        entries: dict[str, Floats] = {}
        for _ in range(count):
            name = taken(number()).decode("utf-8", errors="backslashreplace")
            calls = number()
            values = np.frombuffer(taken(4 * number()), np.float32)
            if not values.size:
                raise _unfit(path, f"its entry for {name} is empty")
            entries[name] = values / np.float32(calls) if calls > 0 else values
        chunks = 0
        datasets: tuple[str, ...] = ()
        if at < len(data):
            chunks = number()
            datasets = tuple(filter(None, [taken(number()).decode("utf-8", errors="replace")]))
    except struct.error:
        raise _unfit(path, f"it ends at byte {len(data)}, in the middle of an entry") from None
    return ImportanceMatrix(str(path), entries, datasets, chunks)


def _text(value: str) -> GGUFValue:
    return string(value.encode()[:_LONGEST].decode(errors="ignore"))


def _unfit(path: Path, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{path.name} is no importance matrix that can be used",
        f"{path}: {why}",
        "make it anew with llama-imatrix, from a GGUF of this very model",
    )
