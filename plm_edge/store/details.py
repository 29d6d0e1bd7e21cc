"""What a person wants to know of one model, as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.model import gguf_file, loadable
from plm_edge.model.description import describe
from plm_edge.store import fit, listing, registry
from plm_edge.store.inspection import NFC_NOTE
from plm_edge.store.registry import RegisteredModel

SCHEMA = "plm-edge/model/1"


def details(path: Path, *, hashed: bool = False) -> dict[str, Any]:
    """Returns what there is to know of the GGUF at `path` (plm-edge/model/1; sizes in bytes).

    Args:
        hashed: read all of it for its SHA-256, and compare that with the one on record.

    Raises:
        PlmEdgeError: it is missing, damaged, or lacks a part.
    """
    known = registry.known()
    absolute = path.parent.resolve() / path.name
    model = next((m for m in known.models if m.path == str(absolute)), None)
    parts = [gguf_file.read(part) for part in gguf_file.shards(path)]
    header = parts[0]
    said = describe(header)
    n_params = sum(part.n_params for part in parts)
    tensor_bytes = sum(part.tensor_bytes for part in parts)
    entry = model or _unknown(absolute)
    template = header.keys.get("tokenizer.chat_template")
    return {
        "schema": SCHEMA,
        **listing.summary(entry, known),
        "bytes": sum(part.file_bytes for part in parts),
        "parts": len(parts),
        "title": said.name,
        "architecture": said.architecture,
        "parameters": n_params,
        "bits_per_weight": round(8 * tensor_bytes / n_params, 3) if n_params else None,
        "quant": entry.quant or said.quant,
        "recipe": said.recipe,
        "types": said.types,
        "layout": {"name": said.layout, "version": said.layout_version},
        "context": said.context_length,
        "layers": said.n_layers,
        "chat_template": isinstance(template, str) and bool(template),
        "licence": _text(header.keys.get("general.license")),
        "made_from": said.source,
        "synthetic": said.synthetic,
        "tokenizer_note": NFC_NOTE if said.pretokenizer == "qwen2" else "",
        **fit.of(header, tensor_bytes).as_dict(),
        "loadable": _loadable(header),
        **_hash(entry, path, hashed),
    }


def _unknown(path: Path) -> RegisteredModel:
    """An entry for a file that is not known."""
    return RegisteredModel(str(path), "", "", 0, "", "added")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _loadable(header: gguf_file.GGUFFile) -> str:
    """Why the engine cannot load it; empty where nothing speaks against it."""
    try:
        loadable.check(header)
    except PlmEdgeError as error:
        return error.why
    return ""


def _hash(entry: RegisteredModel, path: Path, hashed: bool) -> dict[str, Any]:
    if not hashed:
        return {"sha256": entry.sha256, "sha256_state": "recorded" if entry.sha256 else "unknown"}
    try:
        now = files.sha256(path)
    except OSError as error:
        raise PlmEdgeError(f"cannot read {path}", str(error.strerror), "check the disk") from error
    state = "changed" if entry.sha256 and entry.sha256 != now else "compared"
    return {"sha256": now, "sha256_state": state if entry.sha256 else "computed"}
