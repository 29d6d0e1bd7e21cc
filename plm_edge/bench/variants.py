"""One model in several types: made from a checkpoint or a good file, and kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base import folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.store import bundled

UNQUANTISED = ("F32", "BF16", "F16")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Origin:
    """What a model is made from: a checkpoint's folder, or a GGUF.

    `best`: the type of the reference: f32 of a checkpoint, else the file itself.
    """

    path: Path
    name: str
    best: str

    @property
    def quantised(self) -> bool:
        """Whether its own weights have lost something already."""
        return self.best.upper() not in UNQUANTISED


def origin(given: Path | None) -> Origin:
    """What is to be converted.

    Args:
        given: a checkpoint's folder or a GGUF; None: the bundled tiny-plm's checkpoint.

    Raises:
        PlmEdgeError: it is neither, or a GGUF of few bits: nothing better comes from it.
    """
    if given is None:
        return Origin(bundled.checkpoint(), "tiny-plm", "f32")
    if given.is_dir():
        return Origin(given, given.resolve().name, "f32")
    header = gguf_file.read(given)
    quant = describe(header).quant.lower()
    bits = 8 * header.tensor_bytes / header.n_params if header.n_params else 0
    if bits < 8:
        raise PlmEdgeError(
            f"{given.name} has too few bits to make other types from",
            f"it is {quant}, {bits:.1f} bits a weight",
            "give the checkpoint's folder, or a GGUF in f32, bf16, f16 or q8_0",
            ExitCode.USAGE,
        )
    return Origin(given, given.stem, quant)


def provide(source: Origin, quant: str, progress: Progress | None = None) -> Path:
    """Give the model in a type, in the edge layout: kept from an earlier call, or converted now.

    Args:
        progress: called with the name of each step that takes time.

    Raises:
        PlmEdgeError: it cannot be converted so.
    """
    if quant == source.best and source.path.is_file():
        return source.path
    from plm_edge import __version__
    from plm_edge.converters.convert import convert

    digest = hashlib.sha256(f"{_identity(source.path)} {__version__}".encode()).hexdigest()[:12]
    target = folders.cache() / "types" / f"{source.name}-{quant}-{digest}.gguf"
    if not target.is_file():
        if progress:
            progress(f"converting {source.name} to {quant}")
        folders.ensure(target.parent)
        convert(source.path, quant=quant, out=target, allow_requantize=source.quantised)
    return target


def _identity(path: Path) -> str:
    """Changes when the checkpoint does: names, sizes and times of its files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    said = [
        f"{one.name} {one.stat().st_size} {one.stat().st_mtime_ns}"
        for one in files
        if one.is_file()
    ]
    return "\n".join([str(path.resolve()), *said])
