"""This module says what besides the CPU the loaded engine can compute with, and how much goes
there."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.library import Engine
from plm_edge.model.need import MIB
from plm_edge.model.offload import Gpu

CPU, GPU, IGPU = 0, 1, 2  # enum ggml_backend_dev_type
BACKENDS = ("cuda", "vulkan", "metal")
ALL = 1 << 16  # layers: more than any model has
_LISTED = re.compile(
    r"^  (?P<name>\w+): (?P<about>.*) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)$", re.MULTILINE
)
_NO_GPU = "there is no GPU to compute with"


@dataclass(frozen=True, kw_only=True)
class Accelerator(Gpu):
    """A GPU that the loaded engine can use.

    Attributes:
        handle: address of its ggml_backend_dev.
        card: it has memory of its own, and is no part of the processor's chip.
    """

    handle: int
    card: bool = True


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
    """Returns the GPUs that the loaded engine has found, in its order; RPC servers are none.

    A chip's own GPU is taken where there is no other, as llama.cpp does.
    """
    registry = library(engine, "ggml")
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    registry.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    devices = map(registry.ggml_backend_dev_get, range(registry.ggml_backend_dev_count()))
    found = [gpu for device in devices if (gpu := gpu_of(engine, device)) is not None]
    cards = [gpu for gpu in found if gpu.card]
    return cards or found


def gpu_of(engine: Engine, device: int) -> Accelerator | None:
    """Returns what a device says of itself now; None if it is no GPU of this machine.

    Args:
        device: address of a ggml_backend_dev.
    """
    base = engine.ggml
    for function in (base.ggml_backend_dev_name, base.ggml_backend_dev_description):
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_void_p]
    base.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    sizes = ctypes.POINTER(ctypes.c_size_t)
    base.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, sizes, sizes]
    name = base.ggml_backend_dev_name(device).decode(errors="replace")
    kind = base.ggml_backend_dev_type(device)
    if kind not in (GPU, IGPU) or name.startswith("RPC"):
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    base.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    about = base.ggml_backend_dev_description(device).decode(errors="replace")
    return Accelerator(name, about, free.value, total.value, handle=device, card=kind == GPU)


def listed(text: str) -> tuple[Gpu, ...]:
    """Returns the GPUs in what `llama-server --list-devices` prints."""
    return tuple(
        Gpu(one["name"], one["about"], int(one["free"]) * MIB, int(one["total"]) * MIB)
        for one in _LISTED.finditer(text)
    )


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
    if has_backend(folder):
        return none_found(f"the engine in {folder}")
    return for_cpu(
        f"the engine in {folder}",
        "build one with the GPU's backend: plm-edge engine build --device host (for AMD, Intel and "
        "others with --gpu vulkan); then --gpu finds it",
    )


def for_cpu(engine: str, fix: str) -> PlmEdgeError:
    """The error for a GPU that is wanted of an engine, named in words, that knows none."""
    return PlmEdgeError(_NO_GPU, f"{engine} was built for the CPU alone", fix, ExitCode.ENVIRONMENT)


def none_found(engine: str) -> PlmEdgeError:
    """The error for a GPU that is wanted, where an engine with a backend for one finds none.

    Args:
        engine: it, and where it is, in words.
    """
    return PlmEdgeError(
        _NO_GPU,
        f"{engine} was built with a GPU backend, and that finds no GPU",
        "see that the GPU's driver is installed (plm-edge doctor says what is missing), or leave "
        "--gpu out",
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
        "leave it out for auto: as many layers as fit the GPU, where the engine has one",
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
