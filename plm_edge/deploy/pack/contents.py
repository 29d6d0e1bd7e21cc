"""This module says what a packed folder holds: each file's name in it and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plm_edge.base import place
from plm_edge.building import licences
from plm_edge.building.cache import KeptBuild
from plm_edge.deploy import device_engine
from plm_edge.model import fit, gguf_file, sizes
from plm_edge.model import need as needs
from plm_edge.model.gguf_file import GGUFFile

HERE = Path(__file__).parent
PAGE = place.PACKAGE / "serve/page/index.html"
_SAFE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+")


def copies(engine: KeptBuild, model: GGUFFile) -> Iterator[tuple[str, Path]]:
    """Yields each file that is copied: its path in the folder, and where it is now."""
    for item in engine.manifest.files:
        if item.path == device_engine.PROGRAM or device_engine.is_library(item.path):
            yield item.path, engine.folder / item.path
    for shard in gguf_file.shards(model.path):
        yield f"model/{safe(shard.name)}", shard
    if PAGE.is_file():
        yield "page/index.html", PAGE
    yield "start.sh", HERE / "start.sh"
    for path in sorted((engine.folder / licences.FOLDER).glob("*")):
        yield f"{licences.FOLDER}/{path.name}", path


def about(model: GGUFFile) -> str:
    """Returns what start.sh reads of the model: shell assignments, and the rule of model/fit.py."""
    n_ctx = fit.preferred_ctx(model)
    shape = sizes.kv_shape(model)
    most = needs.of(model, n_ctx, fit.PREFERRED_KV)
    fits = "\n".join(
        f"{ctx} {kv} {_mib(needs.of(model, ctx, kv).total)}" for ctx, kv in fit.offers(model)
    )
    return (
        "# written by `plm-edge pack`, read by start.sh\n"
        f"MODEL={safe(model.path.name)}\n"
        f"NAME={safe(model.path.stem)}\n"
        f"CTX={n_ctx}\n"
        f"BASE_MIB={_mib(most.total - most.kv)}\n"
        f"KV_BYTES={shape.bytes_per_token(fit.PREFERRED_KV) if shape else 0}\n"
        f"fits() {{\n    cat <<ROWS\n{fits}\nROWS\n}}\n"
    )


def readme(engine: KeptBuild, model: GGUFFile, folder: str) -> str:
    """Returns README.txt, in plain words."""
    n_ctx, manifest = fit.preferred_ctx(model), engine.manifest
    need = needs.of(model, n_ctx, fit.PREFERRED_KV)
    licence = model.keys.get("general.license")
    return (HERE / "README.txt").read_text(encoding="utf-8").format(
        name=model.path.stem, device=manifest.device, folder=folder, n_ctx=n_ctx,
        needs=f"With all of it, about {_mib(need.total)} MiB must be free.",
        version=manifest.version, pin=manifest.pin, arch=manifest.arch,
        model=safe(model.path.name), size=f"{needs.mib(model.tensor_bytes)} MiB",
        licence=f", licence: {licence}" if isinstance(licence, str) else "",
    )  # fmt: skip


def safe(name: str) -> str:
    """Returns a file's name with nothing in it that a shell or a file system minds."""
    made = "".join(char if char in _SAFE else "-" for char in name)
    return made.lstrip("-.") or "model"


def _mib(n_bytes: int) -> int:
    return -(-n_bytes // needs.MIB)
