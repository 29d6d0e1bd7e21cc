"""The bundled model is a trained PLM of a few megabytes, so that everything runs at once.

It is shipped as a checkpoint and converted at its first use into the user's cache folder, under
a name that holds the checkpoint's hash: a new checkpoint or version makes a new file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from plm_edge import __version__
from plm_edge.base import folders, place
from plm_edge.base.errors import ExitCode, PlmEdgeError

QUANT = "q8_0"
_PLACES = place.shipped("examples/tiny-plm/checkpoint", "tiny-plm")


def checkpoint() -> Path:
    """The bundled checkpoint's folder.

    Raises:
        PlmEdgeError: this installation has none (code ENVIRONMENT).
    """
    for folder in _PLACES:
        if (folder / "config.json").is_file():
            return folder
    raise PlmEdgeError(
        "there is no model to run",
        "nothing was converted yet, and this installation has no bundled tiny-plm "
        f"(looked in {', '.join(map(str, _PLACES))})",
        "give a .gguf file, or make one: plm-edge convert FOLDER",
        ExitCode.ENVIRONMENT,
    )


def cached_path() -> Path:
    """The path of the converted model, which may not exist yet."""
    return folders.cache() / f"tiny-plm-{QUANT}-{__version__}-{_hash(checkpoint())[:12]}.gguf"


def model() -> Path:
    """The path of the tiny model as a GGUF; it is converted now if it was not before.

    Raises:
        PlmEdgeError: there is none, or it cannot be converted or stored.
    """
    target = cached_path()
    if target.is_file():
        return target
    from plm_edge.converters.convert import convert

    folders.ensure(target.parent)
    convert(checkpoint(), quant=QUANT, out=target)  # writes beside the target and renames
    return target


def _hash(folder: Path) -> str:
    """SHA-256, in hex, over names and contents of all files of the checkpoint."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
