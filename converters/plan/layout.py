"""A layout, stock or edge, says which form each tensor takes in the file.

`stock` is what upstream's own tools write, bit for bit. `edge` holds what our kernels want, and a
key with a version that says so:

- `ffn_down` has one row a neuron, the transpose of the checkpoint's. Squared ReLU makes most
  neurons zero, and the weights of a zero neuron are then one piece of the file that is not read. A
  program that does not know the layout finds a wrong shape and refuses the file. (Where n_ff equals
  the hidden size no shape would tell the two apart, and the checkpoint's own form stays.)
- `ffn_up`, where it is q4_K, is in planes (`converters/planes.py`): the upper bits of its weights
  tell of most neurons that they become zero, and then the lower ones are not read. Such a file has
  version 2; one without has version 1, which older engines read as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from gguf import GGMLQuantizationType, GGUFValueType
from gguf.gguf_writer import GGUFValue

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters import planes
from plm_edge.converters.keys import Keys, u32
from plm_edge.converters.plan.plm import Kind, TensorSpec
from plm_edge.converters.tensors import Tensor
from plm_edge.converters.transposed_tensor import TransposedTensor
from plm_edge.model.description import LAYOUT_VERSION_KEY, PLANES_KEY, Layout

LAYOUTS: tuple[str, ...] = get_args(Layout)
# Goes up by one whenever a file of this layout would be read wrongly by an older engine.
EDGE_VERSION = 2


@dataclass(frozen=True)
class Form:
    """How a tensor lies in the file; quantisation blocks run along a row.

    Attributes:
        name: in a GGUF.
        shape: (rows, columns) as stored.
        transposed: its rows are the columns of the checkpoint's.
    """

    name: str
    shape: tuple[int, ...]
    transposed: bool = False

    def of(self, source: Tensor) -> Tensor:
        """Returns the checkpoint's tensor `source` in this form."""
        if not self.transposed:
            return source
        # A file of the edge layout has it in this form already.
        return source.source if isinstance(source, TransposedTensor) else TransposedTensor(source)


def check_layout(name: str) -> Layout:
    """Returns the layout of this name.

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
    """Decides, alone, which form one tensor has in `layout`."""
    if layout == "edge" and spec.kind is Kind.FFN_DOWN and not _is_square(spec):
        rows, columns = spec.shape
        return Form(spec.name, (columns, rows), transposed=True)
    return Form(spec.name, spec.shape)


def in_planes(spec: TensorSpec, layout: Layout, type_: GGMLQuantizationType) -> bool:
    """Says whether a tensor that gets this type is stored in planes.

    Only in a file that other programs refuse, which they do for the shape of `ffn_down`.
    """
    up = layout == "edge" and spec.kind is Kind.FFN_UP and not _is_square(spec)
    return up and planes.fits(type_, spec.shape)


def _is_square(spec: TensorSpec) -> bool:
    """Whether n_ff equals the hidden size, of a matrix of the MLP."""
    return spec.shape[0] == spec.shape[1]


def layout_keys(layout: Layout, stored_in_planes: Sequence[str]) -> Keys:
    """Returns the keys by which a reader tells the layouts apart.

    Args:
        stored_in_planes: names of tensors.
    """
    if layout == "stock":
        return {}
    if not stored_in_planes:
        return {LAYOUT_VERSION_KEY: u32(1)}
    listed = GGUFValue([*stored_in_planes], GGUFValueType.ARRAY, sub_type=GGUFValueType.STRING)
    return {LAYOUT_VERSION_KEY: u32(EDGE_VERSION), PLANES_KEY: listed}
