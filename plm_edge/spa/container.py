"""Plugins and codecs are GGUFs of type adapter: keys, and tensors that stay in the file until they
are asked for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import gguf_file

VERSIONS = {"spa": 2, "spa-codec": 1}
Tensors = dict[str, NDArray[Any]]
_TYPES = {"f16": np.float16, "f32": np.float32, "i8": np.int8, "i32": np.int32}


def write(
    path: Path, kind: str, keys: Mapping[str, str | list[int]], tensors: Tensors, mode: int
) -> None:
    """Write a file in one go; what was there stays until it is whole.

    Args:
        kind: adapter.type.
        keys: without their "spa.".
        tensors: float16, float32, int8 or int32, by names without their "spa.".
        mode: permissions, as of `files.replacing`.

    Raises:
        OSError: it cannot be written.
    """
    from gguf import GGUFWriter

    # A folder of ours alone: what is written may be personal, and others may write to its parent.
    with tempfile.TemporaryDirectory(prefix=".spa-", dir=path.parent) as folder:
        beside = Path(folder) / "made.gguf"
        writer = GGUFWriter(beside, "spa")
        writer.add_type("adapter")
        writer.add_string("adapter.type", kind)
        writer.add_uint32("spa.version", VERSIONS[kind])
        for name, value in keys.items():
            if isinstance(value, str):
                writer.add_string(f"spa.{name}", value)
            else:
                writer.add_array(f"spa.{name}", value)
        for name, array in tensors.items():
            writer.add_tensor(f"spa.{name}", np.ascontiguousarray(array))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with beside.open("rb") as made, files.replacing(path, mode) as target:
            shutil.copyfileobj(made, target, files.CHUNK)


def read(path: Path, kind: str, what: str, fix: str) -> tuple[dict[str, Any], Tensors]:
    """Returns keys and tensors, both without their "spa.".

    Args:
        what: its name for a person, such as "SPA plugin".
        fix: how one is made.

    Raises:
        PlmEdgeError: it is none, of another version, or damaged.
    """
    header = gguf_file.read(path)
    if header.keys.get("adapter.type") != kind:
        raise PlmEdgeError(
            f"{path.name} is no {what}", f"its architecture is {header.architecture!r}", fix
        )
    if (found := header.keys.get("spa.version")) != VERSIONS[kind]:
        raise PlmEdgeError(
            f"{path.name} is of another version",
            f"it has version {found}, and this program reads {VERSIONS[kind]}",
            fix,
        )
    keys = {
        name.removeprefix("spa."): value.values() if hasattr(value, "values") else value
        for name, value in header.keys.items()
        if name.startswith("spa.")
    }
    tensors: Tensors = {
        entry.name.removeprefix("spa."): np.memmap(
            path, _TYPES[entry.type], "r", entry.offset, tuple(reversed(entry.shape))
        )
        for entry in header.tensors
        if entry.type in _TYPES and entry.n_bytes
    }
    return keys, tensors


def damaged(path: Path, why: str) -> PlmEdgeError:
    """The error for a file that is not what it says."""
    return PlmEdgeError(f"{path.name} is damaged", why, "copy it again, or make it again")
