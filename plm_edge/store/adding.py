"""`add` makes a GGUF known that is here already: it is used in place, and never copied."""

from __future__ import annotations

from pathlib import Path

from plm_edge.model import gguf_file, loadable
from plm_edge.model.description import describe
from plm_edge.store import choice, elsewhere, names, registry
from plm_edge.store.registry import RegisteredModel


def add(path: Path) -> RegisteredModel:
    """Make the GGUF at `path` known, as the newest. Of a split one any part can be named.

    What another program knows of it (its name, its hash) is taken over from there.

    Raises:
        PlmEdgeError: it is missing, no GGUF, lacks a part, cannot be loaded, or the data folder
            cannot be written.
    """
    path = path.expanduser()
    choice.check_is_gguf(path)
    parts = list(gguf_file.shards(path))
    for part in parts:
        choice.check_is_gguf(part)
    header = gguf_file.read(parts[0])
    loadable.check(header)  # it would be what commands take without a name
    resolved = parts[0].resolve()
    there = [*elsewhere.find(), *elsewhere.in_models_folder()]
    found = next((f for f in there if f.path.resolve() == resolved), None)
    place = found.path if found else parts[0]
    n_bytes = sum(part.stat().st_size for part in parts)
    said = describe(header)
    quant = said.recipe or names.split_stem(place.stem)[1] or said.quant
    try:
        return registry.add_model(
            place,
            found.program if found else said.source or str(path.absolute()),
            quant,
            origin="added",
            repository=found.repository if found else "",
            sha256=found.sha256 if found else "",
            n_bytes=n_bytes,
            name=found.name if found and found.program == "ollama" else "",
        )
    except OSError as error:
        raise registry.cannot_write(error) from error
