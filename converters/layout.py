"""stock | edge: which form each tensor takes in the file.

`stock` is what upstream's own tools write, bit for bit. `edge` is the same plus a key with a
version, which says that the file may hold what only our engine reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from converters.keys import Keys, u32
from converters.plm import TensorSpec
from plm_edge.errors import ExitCode, PlmEdgeError

Layout = Literal["stock", "edge"]
LAYOUTS: tuple[str, ...] = get_args(Layout)
EDGE_VERSION_KEY = "plm_edge.layout.version"
# Goes up by one whenever a file of this layout would be read wrongly by an older engine.
EDGE_VERSION = 1


@dataclass(frozen=True)
class Form:
    """How a tensor lies in the file. `shape` is (rows, columns) as stored; quantisation blocks run
    along a row."""

    name: str
    shape: tuple[int, ...]


def check_layout(name: str) -> Layout:
    """
    Raises:
        PlmEdgeError: no layout has this name.
    """
    if name == "stock":
        return "stock"
    if name == "edge":
        return "edge"
    raise PlmEdgeError(
        f"there is no layout {name!r}",
        f"the layouts are {' and '.join(LAYOUTS)}",
        "edge for plm-edge itself, stock for every other program that is based on llama.cpp",
        ExitCode.USAGE,
    )


def form(spec: TensorSpec, layout: Layout) -> Form:
    """The form of one tensor in `layout`: the one place where this is decided.

    Both layouts hold every tensor as the checkpoint has it, until a kernel asks for another form.
    """
    del layout
    return Form(spec.name, spec.shape)


def layout_keys(layout: Layout) -> Keys:
    """The keys by which a reader tells the layouts apart."""
    return {EDGE_VERSION_KEY: u32(EDGE_VERSION)} if layout == "edge" else {}
