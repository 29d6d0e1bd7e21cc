"""What is known of each model is told as plain data, for a table or for --json."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.store import elsewhere, names, registry
from plm_edge.store.registry import Known, RegisteredModel

SCHEMA = "plm-edge/models/1"
FOUND_SCHEMA = "plm-edge/found-models/1"


def listing() -> dict[str, Any]:
    """Returns all models, the newest first, and aliases (plm-edge/models/1; sizes in bytes)."""
    known = registry.known()
    newest = next((model for model in reversed(known.models) if model.present), None)
    models = [
        {**summary(model, known), **header_of(model), "newest": model is newest}
        for model in reversed(known.models)
    ]
    return {
        "schema": SCHEMA,
        "models": models,
        "aliases": known.aliases or {},
        "damaged": [str(path) for path in registry.damaged()],
    }


def summary(model: RegisteredModel, known: Known) -> dict[str, Any]:
    """What the registry says of a model."""
    entry = asdict(model)
    del entry["name"], entry["n_bytes"]
    aliases = [name for name, path in (known.aliases or {}).items() if path == model.path]
    return {
        "name": names.shown_name(model),
        "aliases": aliases,
        "present": model.present,
        "bytes": model.n_bytes,
        **entry,
    }


def header_of(model: RegisteredModel) -> dict[str, Any]:
    """What its file says of itself; a problem in words where that cannot be read."""
    found: dict[str, Any] = {"architecture": "", "context": None, "problem": ""}
    if not model.present:
        return {**found, "problem": "the file is gone"}
    try:
        header = gguf_file.read(Path(model.path))
    except PlmEdgeError as error:
        return {**found, "problem": error.why}
    missing = [part.name for part in gguf_file.shards(Path(model.path)) if not part.is_file()]
    said = describe(header)
    return {
        "architecture": said.architecture,
        "context": said.context_length,
        "problem": f"{missing[0]} is gone" if missing else "",
    }


def found() -> dict[str, Any]:
    """Returns the GGUFs in other programs' folders (plm-edge/found-models/1).

    Those in the folder of models are among them where they are not known, as after the registry
    was damaged.
    """
    known = {Path(model.path).resolve() for model in registry.known().models}
    return {
        "schema": FOUND_SCHEMA,
        "models": [
            {
                "name": model.name or model.path.stem,
                "path": str(model.path),
                "program": model.program,
                "bytes": model.n_bytes,
                "repository": model.repository,
                "known": model.path.resolve() in known,
            }
            for model in [*elsewhere.in_models_folder(), *elsewhere.find()]
            if model.program != "plm-edge" or model.path.resolve() not in known
        ],
    }
