"""This module says what besides the CPU the loaded engine can compute with, and how much goes
there."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.library import Engine
from plm_edge.model.gguf_file import GGUFFile

CPU, GPU, IGPU = 0, 1, 2  # enum ggml_backend_dev_type
BACKENDS = ("cuda", "vulkan", "metal")
ALL = 1 << 16  # layers: more than any model has


@dataclass(frozen=True)
class Accelerator:
    """A GPU that the loaded engine can use.

    Attributes:
        handle: address of its ggml_backend_dev.
        name: as the backend counts it, "CUDA0", "Vulkan0".
        description: of the chip.
        free: bytes of its memory that are free.
        total: bytes of its memory.
    """

    handle: int
    name: str
    description: str
    free: int
    total: int


def library(engine: Engine, name: str) -> ctypes.CDLL:
    """Returns one of the engine's libraries, such as "ggml-rpc"."""
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    return ctypes.CDLL(str(engine.folder / f"lib{name}{suffix}"))


def cpu(engine: Engine) -> int:
    """Returns the address of the CPU's ggml_backend_dev."""
    registry = library(engine, "ggml")
    registry.ggml_backend_dev_by_type.restype = ctypes.c_void_p
    registry.ggml_backend_dev_by_type.argtypes = [ctypes.c_int]
    found: int = registry.ggml_backend_dev_by_type(CPU)
    return found


def gpus(engine: Engine) -> list[Accelerator]:
    """Returns the GPUs that the loaded engine has found, in its order; RPC servers are none."""
    registry, base = library(engine, "ggml"), engine.ggml
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    registry.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    for function in (base.ggml_backend_dev_name, base.ggml_backend_dev_description):
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_void_p]
    base.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    sizes = ctypes.POINTER(ctypes.c_size_t)
    base.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, sizes, sizes]
    found = []
    for at in range(registry.ggml_backend_dev_count()):
        device = registry.ggml_backend_dev_get(at)
        name = base.ggml_backend_dev_name(device).decode(errors="replace")
        if base.ggml_backend_dev_type(device) in (GPU, IGPU) and not name.startswith("RPC"):
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            base.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
            about = base.ggml_backend_dev_description(device).decode(errors="replace")
            found.append(Accelerator(device, name, about, free.value, total.value))
    return found


def require_gpu(engine: Engine) -> list[Accelerator]:
    """Returns the engine's GPUs.

    Raises:
        PlmEdgeError: it has none (code ENVIRONMENT).
    """
    found = gpus(engine)
    if found:
        return found
    raise missing(engine.folder)


def missing(folder: Path) -> PlmEdgeError:
    """The error for a GPU that is wanted, where the engine in `folder` has none."""
    with_backend = has_backend(folder)
    return PlmEdgeError(
        "there is no GPU to compute with",
        f"the engine in {folder} was built with a GPU backend, and that finds no GPU here"
        if with_backend
        else f"the engine in {folder} was built for the CPU alone",
        "see that the GPU's driver is installed (vulkaninfo or nvidia-smi names the GPU), or leave "
        "--gpu out"
        if with_backend
        else "build one with the GPU's backend: plm-edge engine build --device host; then --gpu "
        "finds it",
        ExitCode.ENVIRONMENT,
    )


def has_backend(folder: Path) -> bool:
    """Whether the engine in a folder was built for a GPU."""
    return any(any(folder.glob(f"libggml-{name}.*")) for name in BACKENDS)


def parse_layers(text: str) -> int | None:
    """Returns what --gpu says: a number of layers, `ALL` for "all", 0 for "off", None for "auto".

    Raises:
        PlmEdgeError: it is none of these (code USAGE).
    """
    words = {"auto": None, "off": 0, "all": ALL}
    if text in words:
        return words[text]
    if text.isdigit() and int(text) <= ALL:
        return int(text)
    raise PlmEdgeError(
        f"--gpu {text} says nothing",
        "it takes auto, off, all, or a number of layers",
        "leave it out for auto: all layers where the engine has a GPU",
        ExitCode.USAGE,
    )


def share_here(n_layers: int, gpu_layers: int | None) -> float:
    """Returns the share of a model's layers that stay in this machine's own memory.

    Args:
        n_layers: that the model has.
        gpu_layers: that go elsewhere; None: all.
    """
    if gpu_layers is None or n_layers < 1:
        return 0.0
    return max(0.0, 1.0 - gpu_layers / n_layers)


def layers_for(n_layers: int, here: int, there: Sequence[int]) -> int:
    """Returns how many layers go to other machines, by memory: at least one for each of them.

    Args:
        n_layers: that the model has.
        here: bytes of memory of this machine.
        there: bytes of memory of the other machines' devices, each.
    """
    away = n_layers * sum(there) / max(1, here + sum(there))
    return min(n_layers, max(len(there), round(away)))


def remark(header: GGUFFile, found: Sequence[Accelerator]) -> str | None:
    """A sentence about what this model does not do well on these GPUs; None if nothing is known."""
    transposed = [
        tensor.type
        for tensor in header.tensors
        if tensor.name.endswith(("attn_kv_b.weight", "ffn_down.weight"))
    ]
    if header.architecture != "plm" or not any("_k" in name.lower() for name in transposed):
        return None
    name = found[0].name.rstrip("0123456789") if found else "a GPU"
    return (
        f"{name} has no sparse product, and turns K-quants over on the CPU for each token: a "
        "q8_0 or q4_0 file in the stock layout is faster there (convert --quant q8_0 --layout "
        "stock)"
    )
