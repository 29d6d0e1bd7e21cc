"""What is to be pulled may be here already: known, or in another program's folder."""

from __future__ import annotations

from pathlib import Path

from plm_edge.base import files
from plm_edge.model import gguf_file
from plm_edge.store import elsewhere, registry
from plm_edge.store.candidates import Candidate
from plm_edge.store.elsewhere import FoundModel
from plm_edge.store.registry import RegisteredModel


def is_ours(target: Path) -> bool:
    """Whether `pull` placed the model that lies here."""
    path = str(target.parent.resolve() / target.name)
    return any(model.placed and model.path == path for model in registry.known().models)


def known(candidate: Candidate) -> RegisteredModel | None:
    """The known model with this content."""
    sha256 = candidate.files[0].sha256
    for model in reversed(registry.entries()):
        parts = list(gguf_file.shards(Path(model.path)))
        whole = all(part.is_file() for part in parts)
        if not whole or sum(part.stat().st_size for part in parts) != candidate.n_bytes:
            continue
        if sha256 and model.sha256 == sha256:
            return model
    return None


def register_again(
    model: RegisteredModel, repository: str, candidate: Candidate
) -> RegisteredModel:
    """Make a known model the newest, under the name by which it was asked for."""
    return registry.add_model(
        Path(model.path),
        model.source if model.repository else repository,
        candidate.quant or model.quant,
        origin=model.origin,
        repository=model.repository or repository,
        sha256=model.sha256,
        placed=model.placed,
        n_bytes=model.n_bytes,
        name=model.name,
    )


def in_other_program(candidate: Candidate, repository: str) -> FoundModel | None:
    """A file of another program with this content. Split ones are looked for by name as well."""
    first = candidate.files[0]
    for found in elsewhere.find():
        if found.n_bytes != candidate.n_bytes or not first.sha256:
            continue
        if len(candidate.files) > 1 and found.repository != repository:
            continue
        if found.sha256 and found.sha256 != first.sha256:
            continue
        paths = list(gguf_file.shards(found.path))
        if len(paths) != len(candidate.files):
            continue
        # Also what lies under its hash is read: another program's half download would be a
        # model that answers nonsense.
        pairs = zip(paths, candidate.files, strict=True)
        if all(files.sha256(path) == file.sha256 for path, file in pairs):
            return found
    return None
