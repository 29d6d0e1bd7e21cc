"""GGUFs that other programs keep are found in their folders, and used there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base import folders
from plm_edge.model import gguf_file
from plm_edge.store import names

_SHA256 = re.compile(r"(?:sha256-)?([0-9a-f]{64})")
_NO_MODEL = "mmproj"  # in the names of projectors, which run with a model and not alone


@dataclass(frozen=True)
class FoundModel:
    """A GGUF in a folder of another program.

    Attributes:
        path: where it is; its last part may be a link.
        program: whose folder it is in.
        name: what that program calls it: USER/REPO, NAME:TAG; empty where the file's name is all.
        repository: USER/REPO on the hub, where the folder says so.
        sha256: in hexadecimal, where the program keeps it under its hash; else empty.
        n_bytes: of the file.
    """

    path: Path
    program: str
    name: str
    repository: str
    sha256: str
    n_bytes: int


def models_folder() -> Path:
    """The folder where `pull` puts models, unless it is told another."""
    return folders.data() / "models"


def hf_cache() -> Path:
    """The folder where the Hugging Face libraries keep files; HF_HUB_CACHE or HF_HOME names it."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else _cache_home() / "huggingface") / "hub"


def find() -> list[FoundModel]:
    """Returns the GGUFs in the folders of the Hugging Face libraries, LM Studio, ollama, llama.cpp
    and GPT4All; each file once."""
    found: dict[Path, FoundModel] = {}
    for look in _PLACES:
        with contextlib.suppress(OSError):  # a folder that may not be read
            for model in look():
                found.setdefault(model.path.resolve(), model)
    return list(found.values())


def in_models_folder() -> list[FoundModel]:
    """Returns the GGUFs in the folder of models: all that pull placed there, known or not."""
    root = models_folder()
    found = []
    for path in sorted(root.rglob("*.gguf")):
        parts = path.relative_to(root).parts
        repo = "/".join(parts[:2]) if len(parts) > 2 else ""
        made = _found(path, "plm-edge", repo, repo)
        if made:
            found.append(made)
    return found


def in_hf_cache(repository: str = "*") -> Iterator[FoundModel]:
    """Yields the GGUFs in the Hugging Face cache, those of one repository or of all."""
    folder = "models--" + repository.replace("/", "--")
    for path in hf_cache().glob(f"{folder}/snapshots/*/**/*.gguf"):
        repo = path.parts[len(hf_cache().parts)].removeprefix("models--").replace("--", "/", 1)
        made = _found(path, "Hugging Face cache", repo, repo)
        if made:
            yield made


def _lm_studio() -> Iterator[FoundModel]:
    home = Path.home()
    pointer = home / ".lmstudio-home-pointer"
    root = Path(pointer.read_text().strip()) if pointer.is_file() else home / ".lmstudio"
    for folder in (root / "models", home / ".cache/lm-studio/models"):
        for path in folder.glob("*/*/*.gguf"):
            repo = "/".join(path.parts[-3:-1])
            made = _found(path, "LM Studio", repo, repo)
            if made:
                yield made


def _ollama() -> Iterator[FoundModel]:
    named = os.environ.get("OLLAMA_MODELS")
    roots = [Path(named)] if named else []
    roots += [Path.home() / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]
    for root in roots:
        for manifest in root.glob("manifests/*/*/*/*"):
            host, owner, name, tag = manifest.parts[-4:]
            digest = _ollama_model(manifest)
            if not digest:
                continue
            title = f"{name}:{tag}" if owner == "library" else f"{owner}/{name}:{tag}"
            repository = f"{owner}/{name}" if host == "hf.co" else ""
            made = _found(root / "blobs" / f"sha256-{digest}", "ollama", title, repository)
            if made:
                yield made


def _ollama_model(manifest: Path) -> str:
    """The SHA-256 of the model that a manifest of ollama names; empty where there is none."""
    try:
        for layer in json.loads(manifest.read_text(encoding="utf-8"))["layers"]:
            found = re.fullmatch(r"sha256:([0-9a-f]{64})", layer["digest"])
            if layer["mediaType"] == "application/vnd.ollama.image.model" and found:
                return found[1]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ""


def _llama_cpp() -> Iterator[FoundModel]:
    named = os.environ.get("LLAMA_CACHE")
    mac = Path.home() / "Library/Caches" if sys.platform == "darwin" else None
    yield from _in(Path(named) if named else (mac or _cache_home()) / "llama.cpp", "llama.cpp")


def _gpt4all() -> Iterator[FoundModel]:
    yield from _in(Path.home() / ".local/share/nomic.ai/GPT4All", "GPT4All")


_PLACES: tuple[Callable[[], Iterator[FoundModel]], ...] = (
    in_hf_cache, _lm_studio, _ollama, _llama_cpp, _gpt4all,
)  # fmt: skip


def _in(folder: Path, program: str) -> Iterator[FoundModel]:
    for path in folder.glob("*.gguf"):
        made = _found(path, program, "", "")
        if made:
            yield made


def _found(path: Path, program: str, name: str, repository: str) -> FoundModel | None:
    if _NO_MODEL in path.name.lower() or not gguf_file.is_gguf(path):
        return None
    parts = list(gguf_file.shards(path))
    if parts[0].name != path.name or not all(part.is_file() for part in parts):
        return None  # a further part of a split file, or one that lacks parts
    hashed = _SHA256.fullmatch(path.resolve().name)
    n_bytes = sum(part.stat().st_size for part in parts)
    if name == repository and name:
        quant = names.split_stem(path.stem)[1]
        name = f"{name}:{quant}" if quant else name
    return FoundModel(path, program, name, repository, hashed[1] if hashed else "", n_bytes)


def _cache_home() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else Path.home() / ".cache"
