"""What `doctor` says of GPUs: which there are, what their drivers lack, what computes with them."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

from plm_edge.base import console
from plm_edge.base.errors import PlmEdgeError
from plm_edge.building import gpu as build_gpu
from plm_edge.building import gpu_engine, request
from plm_edge.doctor.check import Check
from plm_edge.machine import gpu
from plm_edge.machine.gpu import V3D, Chip, Gpus


def checks(engine_is_there: bool) -> Iterator[Check]:
    """The GPUs, what their drivers lack, and whether an engine computes with them."""
    found = gpu.look()
    if sys.platform == "darwin":
        if platform.machine() == "arm64":
            yield Check("gpu", "ok", "Apple's, by Metal; its memory is the machine's")
            yield from _gpu_engine(found, engine_is_there)
        return
    if not found.chips:
        yield Check(
            "gpu",
            "ok",
            "none: nothing on the PCI bus or among render nodes is a GPU that we know",
            "models run on the CPU",
            "if there is one, install its driver: NVIDIA's own, for others libvulkan1 and "
            "mesa-vulkan-drivers (Debian's names)",
        )
        yield from _loaded(engine_is_there)  # it may know one all the same
        return
    said = "; ".join(_chip(chip, found) for chip in found.chips)
    if all(chip.name == V3D for chip in found.chips):
        why = "llama.cpp's Vulkan backend wants more shared memory than it has: the CPU computes"
        yield Check("gpu", "ok", said, why)
        return
    yield Check("gpu", "ok", said)
    yield from _nvidia(found)
    yield from _vulkan(found)
    yield from _gpu_engine(found, engine_is_there)


def _chip(chip: Chip, found: Gpus) -> str:
    driver = f"driver {chip.driver}" if chip.driver else "no driver"
    if chip.driver == "nvidia" and found.nvidia_driver:
        driver += f" {found.nvidia_driver}"
    if not chip.total:
        return f"{chip.name}, {driver}"
    return f"{chip.name}, {console.size(chip.free)} free of {console.size(chip.total)}, {driver}"


def _nvidia(found: Gpus) -> Iterator[Check]:
    if not found.of("NVIDIA"):
        return
    if found.no_nvml:
        yield Check(
            "NVIDIA driver",
            "note",
            "it does not answer",
            f"{found.no_nvml}; without it neither CUDA nor a meter of its energy works",
            "install NVIDIA's driver (Debian: apt install nvidia-driver; Ubuntu: ubuntu-drivers "
            "install), and start the machine again",
        )
    elif not found.nvidia_smi:
        yield Check(
            "nvidia-smi",
            "note",
            "not on the path",
            "plm-edge asks it which GPU to build the engine for",
            "install it (Debian: apt install nvidia-smi), or put its folder on the path",
        )


def _vulkan(found: Gpus) -> Iterator[Check]:
    others = [chip for chip in found.chips if chip.vendor != "NVIDIA"]
    if found.closed:
        yield Check(
            "render nodes",
            "note",
            f"{', '.join(found.closed)} may not be opened",
            "this user does not belong to the group that may",
            "sudo usermod -aG render,video $USER, then log in again",
        )
    if found.loader and found.vulkan:
        yield Check("Vulkan", "ok", f"drivers: {', '.join(found.vulkan)}")
    elif others:
        lacks = "no loader" if not found.loader else "no driver of a GPU"
        soft = f"; {', '.join(found.software)} computes on the CPU" if found.software else ""
        yield Check(
            "Vulkan",
            "note",
            lacks,
            ("libvulkan.so.1 is not there" if not found.loader else "no manifest names one") + soft,
            "sudo apt install libvulkan1 mesa-vulkan-drivers (Fedora: vulkan-loader "
            "mesa-vulkan-drivers)",
        )


def _gpu_engine(found: Gpus, engine_is_there: bool) -> Iterator[Check]:
    """Whether the engine that is used, or a kept one, computes with a GPU."""
    loaded = list(_loaded(engine_is_there))
    if loaded:
        yield from loaded
        return
    backend = _backend(found)
    kept = gpu_engine.find()
    if kept is not None:
        yield Check("GPU engine", "ok", f"{kept} (run, bench, chat, serve: --gpu all)")
        return
    yield Check(
        "GPU engine",
        "note",
        "none: the engine computes on the CPU",
        _why_not_built(backend),
        "plm-edge engine build"
        + ("" if backend == "cuda" else f" --gpu {backend}")
        + ", then --gpu all",
    )


def _loaded(engine_is_there: bool) -> Iterator[Check]:
    """The GPUs of the engine that is used; nothing where it was built without a backend."""
    from plm_edge.engine import accelerators, library

    if not engine_is_there or not accelerators.has_backend(library.find()):
        return
    there = accelerators.gpus(library.load())
    if there:
        said = ", ".join(f"{one}, {console.size(one.free)} free" for one in there)
        yield Check("GPU engine", "ok", said)
    else:
        error = accelerators.missing(library.find())
        yield Check("GPU engine", "note", "it finds no GPU", error.why, error.fix)


def _backend(found: Gpus) -> str:
    """Which backend an engine for these GPUs would have."""
    if sys.platform == "darwin":
        return "metal"
    return "cuda" if found.of("NVIDIA") else "vulkan"


def _why_not_built(backend: str) -> str:
    """What a build with a backend would lack here."""
    try:
        build_gpu.settings(request.target_for(gpu_engine.HOST, gpu=backend))
    except PlmEdgeError as error:
        return f"{error.what}: {error.why}; {error.fix}"
    return "no build with a GPU's backend was made"
