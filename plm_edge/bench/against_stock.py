"""The same model by stock llama.cpp of the same pin, in turns with ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from plm_edge.base import files, folders
from plm_edge.bench import stock
from plm_edge.bench.worker.client import Setting
from plm_edge.model import gguf_file
from plm_edge.model.description import ARCH, describe


def setting(ours: Setting) -> Setting:
    """How stock llama.cpp runs what `ours` runs: its own build, a file that it can read (the
    stock layout, same types), and flash attention off for PLM, for which it aborts with it.

    Raises:
        PlmEdgeError: it cannot be built here.
    """
    said = describe(gguf_file.read(ours.model))
    flash = "off" if said.architecture == ARCH else ours.flash_attn
    return replace(
        ours,
        model=readable(ours.model, said.layout == "edge"),
        engine=stock.build_stock(),
        flash_attn=flash,
    )


def readable(model: Path, edge: bool) -> Path:
    """`model` itself, or a copy of it in the stock layout, made once and kept in the cache."""
    if not edge:
        return model
    from plm_edge.converters.convert import convert

    digest = files.sha256(model)[:16]
    target = folders.cache() / f"stock-layout-{digest}.gguf"
    if not target.is_file():
        folders.ensure(target.parent)
        # W_down is turned, so its values are rounded once more: no matter for speed
        convert(model, layout="stock", out=target, allow_requantize=True)
    return target
