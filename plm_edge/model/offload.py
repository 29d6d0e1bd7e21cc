"""This module reckons how many layers of a model go to GPUs, by the memory that is free there.

The engine moves a model from its end: first the output, then the last layer, and so on; with
several GPUs it shares them out by what each has free. On each must fit the weights and the cache
of its layers, the buffers to compute in, and a margin that stays free: drivers, desktops and other
programs take memory at any time. Weights and cache are counted from the file's header, compute is
`need.compute_estimate`. Nothing here asks a GPU.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from plm_edge.model import ggml_types, gguf_file, sizes
from plm_edge.model import need as needs
from plm_edge.model.description import ARCH, describe
from plm_edge.model.gguf_file import COARSE, GGUFFile
from plm_edge.model.need import F32, MIB, N_BATCH
from plm_edge.model.sizes import Sizes

SPARSE = ("CUDA", "Vulkan")
"""How the names of devices begin that have the sparse product (MUL_MAT_SPARSE_T)."""
LEAST_MARGIN = 256 * MIB
MARGIN_SHARE = 16  # of a GPU's memory 1/16 stays free, and LEAST_MARGIN at least
CELLS = 256  # the engine's cache has a multiple of these
_LAYER = re.compile(r"blk\.(\d+)\.")
_8_BITS = "q8_0"  # of copies of quantised weights (plm-devices.cpp)


@dataclass(frozen=True)
class Gpu:
    """A GPU that an engine can use.

    Attributes:
        name: as the backend counts it, "CUDA0", "Vulkan0".
        description: of the chip.
        free: bytes of its memory that are free.
        total: bytes of its memory.
    """

    name: str
    description: str
    free: int
    total: int

    @property
    def margin(self) -> int:
        """Bytes that we leave free."""
        return max(LEAST_MARGIN, self.total // MARGIN_SHARE)

    def __str__(self) -> str:
        return f"{self.name} ({self.description})"


@dataclass(frozen=True)
class Parts:
    """The bytes of a model's weights by where they go.

    Attributes:
        layers: of each layer.
        output: of the output matrix and its norm, that go to a GPU first.
        twice: of the token embedding, where it is the output matrix as well: it stays here, and
            goes with the output (which counts it). 0 where the output has its own.
        copies: of each layer's transposed copies on a device without the sparse product.
        whole: of all of the file.
    """

    layers: tuple[int, ...]
    output: int
    twice: int
    copies: tuple[int, ...]
    whole: int

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Parts:
        """Returns the parts that `dataclasses.asdict` made plain data of.

        Raises:
            TypeError: a field is missing, or there is another one.
        """
        return cls(**(data | {name: tuple(data[name]) for name in ("layers", "copies")}))


@dataclass(frozen=True)
class Offload:
    """What goes to GPUs.

    Attributes:
        gpus: where to.
        layers: as the engine counts: the output is the first, the last layer the second.
        n_layers: that the model has.
        weights: bytes there, with transposed copies.
        kv: bytes of the cache there.
        compute: bytes of the buffers to compute in there, an estimate.
        share_here: of the model's weights, the share that stays in this machine's own memory.
        fits: whether it is expected to fit.
        asked: a person said how many.
        least: bytes that one layer with the output would take.
    """

    gpus: tuple[Gpu, ...]
    layers: int
    n_layers: int
    weights: int
    kv: int
    compute: int
    share_here: float
    fits: bool
    asked: bool
    least: int

    @property
    def needed(self) -> int:
        """Bytes there, in all."""
        return self.weights + self.kv + self.compute

    @property
    def free(self) -> int:
        """Bytes that all of the GPUs have free."""
        return sum(gpu.free for gpu in self.gpus)

    @property
    def where(self) -> str:
        """The GPUs in words."""
        return ", ".join(map(str, self.gpus))

    @property
    def what(self) -> str:
        """What goes there, in words."""
        if not self.layers:
            return f"none of {self.n_layers} layers"
        repeating = min(self.layers - 1, self.n_layers)
        if repeating == self.n_layers:
            return f"all {self.n_layers} layers and the output"
        return f"{repeating} of {self.n_layers} layers and the output"

    @property
    def words(self) -> tuple[str, ...]:
        """The words with which llama-server does this."""
        if not self.layers:
            return ("--device", "none")
        names = ",".join(gpu.name for gpu in self.gpus)
        return ("--device", names, "--n-gpu-layers", str(self.layers))

    @property
    def note(self) -> str:
        """One sentence: what goes where, and why so much."""
        free = f"{needs.mib(self.free)} MiB free"
        if not self.layers:
            return (
                f"no layers on {self.where}: of {free} there {needs.mib(self._margin)} stay "
                f"unused, and one layer with the output takes about {needs.mib(self.least)}"
            )
        takes = (
            f"about {needs.mib(self.needed)} MiB (weights {needs.mib(self.weights)}, KV cache "
            f"{needs.mib(self.kv)}, compute {needs.mib(self.compute)}) of {free}"
        )
        said = f"{self.what} on {self.where}: {takes}"
        if not self.fits:
            return f"{said}, with little or nothing left: --gpu auto takes as many as fit"
        if self.layers <= self.n_layers and not self.asked:
            return f"{said}, of which {needs.mib(self._margin)} stay unused; the rest here"
        return said

    @property
    def _margin(self) -> int:
        return sum(gpu.margin for gpu in self.gpus)


def parts(model: GGUFFile) -> Parts:
    """Returns where a model's bytes are, its parts in other files included.

    Raises:
        PlmEdgeError: a part of a split file is missing or damaged.
    """
    tensors = list(model.tensors)
    for path in gguf_file.shards(model.path):
        if path != model.path:
            tensors += gguf_file.read(path).tensors
    n_layers = describe(model).n_layers or 0
    layers, copies = [0] * n_layers, [0] * n_layers
    output = twice = whole = 0
    tied = not any(tensor.name == "output.weight" for tensor in tensors)
    for tensor in tensors:
        whole += tensor.n_bytes
        found = _LAYER.match(tensor.name)
        if found and int(found[1]) < n_layers:
            layers[int(found[1])] += tensor.n_bytes
            copies[int(found[1])] += _copy(model, tensor)
        elif tensor.name.startswith("token_embd"):
            twice += tensor.n_bytes * tied
            output += tensor.n_bytes * tied
        elif not tensor.name.startswith(COARSE):  # the CPU's alone
            output += tensor.n_bytes
    return Parts(tuple(layers), output, twice, tuple(copies), whole)


def _copy(model: GGUFFile, tensor: gguf_file.Tensor) -> int:
    """Bytes of a weight's transposed copy, for a device without the sparse product."""
    if model.architecture != ARCH:
        return 0
    values = tensor.n_values
    if tensor.name.endswith(".attn_kv_b.weight"):
        values = round(values * sizes.share_of_keys(model))
    elif not (tensor.name.endswith(".ffn_down.weight") and describe(model).layout == "edge"):
        return 0
    block, size = ggml_types.TYPE_SIZES[tensor.type]
    if block > 1:
        block, size = ggml_types.TYPE_SIZES[_8_BITS]
    return values * size // block


def reckon(
    model: GGUFFile | Sizes,
    gpus: Sequence[Gpu],
    n_ctx: int,
    kv: str,
    *,
    n_ubatch: int = N_BATCH,
    n_outputs: int = 8,
    wanted: int | None = None,
    where: Parts | None = None,
) -> Offload:
    """Returns how much of a model goes to GPUs.

    Args:
        model: its header, or the sizes in it with `where`.
        gpus: at least one.
        n_ctx: tokens of context, of all conversations together.
        kv: type of the cache.
        n_ubatch: tokens computed at once in prefill.
        n_outputs: of these, the most whose logits are wanted.
        wanted: layers that a person asked for, counted as the engine does; None: as many as fit.
        where: where the model's bytes are; None: as its header says.

    Raises:
        PlmEdgeError: the cache cannot be of this type, or a part of a split file is missing.
    """
    if where is None:
        assert isinstance(model, GGUFFile)
        where = parts(model)
    reckoner = _Reckoner(sizes.of(model), where, tuple(gpus), n_ctx, kv, n_ubatch, n_outputs)
    most = reckoner.n_layers + 1
    if wanted is not None:
        return replace(reckoner.of(min(wanted, most)), asked=True)
    for layers in range(most, 1, -1):
        found = reckoner.of(layers)
        if found.fits:
            return found
    return reckoner.of(0)


@dataclass(frozen=True)
class _Reckoner:
    """A model and GPUs, of which any number of layers can be asked."""

    sizes: Sizes
    parts: Parts
    gpus: tuple[Gpu, ...]
    n_ctx: int
    kv: str
    n_ubatch: int
    n_outputs: int

    @property
    def n_layers(self) -> int:
        return len(self.parts.layers)

    @cached_property
    def kv_a_layer(self) -> int:
        cells = -(-self.n_ctx // CELLS) * CELLS
        return needs.of(self.sizes, cells, self.kv).kv // max(1, self.n_layers)

    @cached_property
    def compute(self) -> int:
        rows = min(self.n_ubatch, self.n_outputs, self.n_ctx) - 1
        one = needs.compute_estimate(self.sizes, self.n_ctx, self.n_ubatch)
        return one + max(0, rows) * self.sizes.vocabulary * F32

    def of(self, layers: int) -> Offload:
        """What so many layers take."""
        weights, kv = [0] * len(self.gpus), [0] * len(self.gpus)
        first = self.n_layers + 1 - layers
        for at in range(layers):
            to = self._gpu(at / layers)
            if first + at == self.n_layers:
                weights[to] += self.parts.output
                continue
            weights[to] += self.parts.layers[first + at]
            if not self.gpus[to].name.startswith(SPARSE):
                weights[to] += self.parts.copies[first + at]
            kv[to] += self.kv_a_layer
        used = [gpu for gpu, size in zip(self.gpus, weights, strict=True) if size]
        fits = all(
            size + cache + self.compute + gpu.margin <= gpu.free
            for gpu, size, cache in zip(self.gpus, weights, kv, strict=True)
            if size
        )
        gone = sum(self.parts.layers[first:]) + self.parts.output - self.parts.twice
        return Offload(
            gpus=self.gpus,
            layers=layers,
            n_layers=self.n_layers,
            weights=sum(weights),
            kv=sum(kv),
            compute=self.compute * len(used),
            share_here=1 - gone / max(1, self.parts.whole) if layers else 1.0,
            fits=fits,
            asked=False,
            least=0 if layers else self.of(min(2, self.n_layers + 1)).needed,
        )

    def _gpu(self, share: float) -> int:
        """Which GPU has what stands at this share of the layers that go: the engine's own rule."""
        whole = sum(gpu.free for gpu in self.gpus) or 1
        ends = itertools.accumulate(gpu.free / whole for gpu in self.gpus)
        return next((at for at, end in enumerate(ends) if share < end), len(self.gpus) - 1)


def load_mode(words: Sequence[str]) -> str:
    """llama.cpp's name of how weights come into memory, as a session here loads them.

    `auto` maps a file that comes in huge pages, and reads others; what other devices get is read.

    Args:
        words: those with which llama-server sends layers elsewhere.
    """
    return "none" if "--n-gpu-layers" in words else "auto"
