"""This module finds a GPU backend's toolchain for cmake, or names what to install."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from plm_edge.building.target import Target
from plm_edge.building.tools import missing_tool

LIBRARIES = "PLM_EDGE_CUDA_LIBRARIES"  # cmake's setting: where the engine looks for CUDA's
_CUDA_HOMES = ("/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda")
_VULKAN_HEADERS = ("vulkan/vulkan.hpp", "spirv/unified1/spirv.hpp")


def settings(target: Target) -> dict[str, str]:
    """cmake's settings for the target's GPU backend; empty if it has none.

    Raises:
        PlmEdgeError: its compiler or headers are missing (code ENVIRONMENT).
    """
    finder = {"cuda": _cuda, "vulkan": _vulkan, "metal": _metal}.get(target.backend)
    return finder(target) if finder else {}


def _cuda(target: Target) -> dict[str, str]:
    if not target.here:
        raise missing_tool(
            f"CUDA for {target.arch}",
            f"nvcc here compiles for {os.uname().machine}, and {target.device} is {target.arch}",
            f"build it on the device itself, or {_without(target)}",
        )
    nvcc = nvcc_path()
    if nvcc is None:
        raise missing_tool(
            "CUDA's compiler",
            "nvcc is neither on the path nor in " + ", ".join(_CUDA_HOMES),
            "install CUDA 12.4 or newer (Debian: apt install nvidia-cuda-toolkit), or "
            + _without(target),
        )
    found = {"CMAKE_CUDA_COMPILER": str(nvcc)} | _cublas(nvcc, target)
    folders = _libraries(nvcc, found.get("CUDA_cublas_LIBRARY"))
    return found | {LIBRARIES: ";".join(map(str, folders))}


def _libraries(nvcc: Path, cublas: str | None) -> list[Path]:
    """Folders that have CUDA's libraries, for the engine to find them when it runs."""
    home = _home(nvcc)
    folders = [*home.glob("targets/*/lib"), home / "lib64", home / "lib"]
    if cublas:
        folders.append(Path(cublas).parent)
    names = ("libcudart.so*", "libcublas.so*")
    having = [
        folder.resolve() for folder in folders if any(any(folder.glob(name)) for name in names)
    ]
    return list(dict.fromkeys(having))


def _home(nvcc: Path) -> Path:
    """The toolkit's folder. nvcc may be a script elsewhere, but knows it."""
    command = [str(nvcc), "--dryrun", "-x", "cu", "-c", os.devnull]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    top = re.search(r"^#\$ TOP=(.+)$", said, re.MULTILINE)
    return Path(top[1]).resolve() if top else nvcc.resolve().parents[1]


def _without(target: Target) -> str:
    """The remedy as a whole command: deploy and bench have no --no-gpu, but use such a build."""
    return f"build for its CPU alone: plm-edge engine build --device {target.device} --no-gpu"


def nvcc_path() -> Path | None:
    """Where nvcc is: CUDACXX, else on the path, else in a usual folder of CUDA; None if nowhere."""
    homes = [os.environ.get("CUDA_HOME", ""), *_CUDA_HOMES]
    places = [os.environ.get("CUDACXX"), shutil.which("nvcc")]
    places += [f"{home}/bin/nvcc" for home in homes if home]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


def _cublas(nvcc: Path, target: Target) -> dict[str, str]:
    """cmake's settings for cuBLAS: empty if the toolkit has its own, else PyPI's nvidia-cublas."""
    home = _home(nvcc)
    if any(home.glob("targets/*/include/cublas_v2.h")) or (home / "include/cublas_v2.h").exists():
        return {}
    if list(Path("/usr/include").glob("cublas_v2.h")):  # Debian's nvidia-cuda-toolkit
        return {}
    for entry in sys.path:
        for root in Path(entry or ".").glob("nvidia/*"):
            library = next(iter(sorted(root.glob("lib/libcublas.so*"))), None)
            light = next(iter(sorted(root.glob("lib/libcublasLt.so*"))), None)
            if library and light and (root / "include/cublas_v2.h").exists():
                return {
                    "CUDA_cublas_LIBRARY": str(library),
                    "CUDA_cublasLt_LIBRARY": str(light),
                    "CMAKE_CUDA_FLAGS": f"-I{root / 'include'}",
                }
    raise missing_tool(
        "CUDA's cuBLAS",
        f"cublas_v2.h is not in {home}",
        "install it (pip install nvidia-cublas; or NVIDIA's libcublas-dev), or " + _without(target),
    )


def _vulkan(target: Target) -> dict[str, str]:
    if shutil.which("glslc") is None:
        raise missing_tool(
            "Vulkan's shader compiler",
            "glslc is not on the path",
            "install it (Debian: apt install glslc libvulkan-dev spirv-headers), or "
            + _without(target),
        )
    include = [Path("/usr/include"), Path("/usr/local/include")]
    if sdk := os.environ.get("VULKAN_SDK"):
        include.insert(0, Path(sdk) / "include")
    for header in _VULKAN_HEADERS:
        if not any((folder / header).is_file() for folder in include):
            raise missing_tool(
                "Vulkan's headers",
                f"{header} is not in {', '.join(map(str, include))}",
                "install them (Debian: apt install libvulkan-dev spirv-headers), or "
                + _without(target),
            )
    return {}


def _metal(target: Target) -> dict[str, str]:
    if shutil.which("xcrun") is None:
        raise missing_tool(
            "Metal's compiler",
            "xcrun is not on the path",
            "install Apple's command line tools: xcode-select --install",
        )
    return {"GGML_METAL_EMBED_LIBRARY": "ON"}
