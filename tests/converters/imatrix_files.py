"""Importance matrices in both of llama-imatrix's formats, with random values."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

from plm_edge.converters.plan.config import read_config
from plm_edge.converters.plan.plm import Kind, tensor_specs

Entries = dict[str, NDArray[np.float32]]
CALLS = 7
CHUNKS = 12


def random_entries(checkpoint: Path, seed: int = 0) -> Entries:
    """A sum for each column of each matrix that a text is multiplied by, over CALLS calls."""
    rng = np.random.Generator(np.random.Philox(seed))
    return {
        spec.name: (CALLS * np.exp(2 * rng.standard_normal(spec.shape[1]))).astype(np.float32)
        for spec in tensor_specs(read_config(checkpoint))
        if spec.kind not in (Kind.NORM, Kind.EMBEDDING)
    }


def write_imatrix(
    path: Path, checkpoint: Path, *, legacy: bool, entries: Entries | None = None
) -> Path:
    entries = random_entries(checkpoint) if entries is None else entries
    if legacy:
        path.write_bytes(dat(entries))
    else:
        write_gguf(path, entries)
    return path


def dat(entries: Entries, *, trailer: bool = True) -> bytes:
    parts = [struct.pack("<i", len(entries))]
    for name, sums in entries.items():
        text = name.encode()
        parts += [struct.pack("<i", len(text)), text, struct.pack("<ii", CALLS, sums.size)]
        parts.append(sums.tobytes())
    if trailer:
        parts.append(struct.pack("<ii", CHUNKS, 8) + b"text.txt")
    return b"".join(parts)


def write_gguf(path: Path, entries: Entries, calls: float = CALLS) -> None:
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["text.txt", "other.txt"])
    writer.add_uint32("imatrix.chunk_count", CHUNKS)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, sums in entries.items():
        writer.add_tensor(f"{name}.in_sum2", sums[None])
        writer.add_tensor(f"{name}.counts", np.full((1, 1), calls, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
