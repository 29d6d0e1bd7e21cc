"""GPU backends: their toolchains are found, or an error says what to install."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import build, gpu, tools
from plm_edge.building.target import Target, machine, target_of
from plm_edge.devices.profiles.profile import find


def refused(made: Target) -> PlmEdgeError:
    with pytest.raises(PlmEdgeError) as caught:
        gpu.settings(made)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert caught.value.what.startswith("the engine cannot be built: ")
    return caught.value


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no GPU toolchain."""
    for name in ("CUDACXX", "CUDA_HOME", "VULKAN_SDK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu, "_CUDA_HOMES", (str(tmp_path / "cuda"),))
    return tmp_path


@pytest.fixture
def here() -> Target:
    """A CUDA target for this kind of machine."""
    name = "rtx4090" if machine() == "x86_64" else "jetson-orin-nano"
    return target_of(find(name))


def test_no_nvcc(bare: Path, here: Target) -> None:
    assert "nvidia-cuda-toolkit" in refused(here).fix


def test_no_cublas(bare: Path, here: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = bare / "cuda/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.touch()
    monkeypatch.setattr("sys.path", [])
    if not Path("/usr/include/cublas_v2.h").exists():
        assert "nvidia-cublas" in refused(here).fix
    header = bare / "cuda/include/cublas_v2.h"
    header.parent.mkdir()
    header.touch()
    found = gpu.settings(here)
    assert found["CMAKE_CUDA_COMPILER"] == str(nvcc)
    assert "CUDA_cublas_LIBRARY" not in found  # cmake finds the toolkit's own


def test_cublas_of_pypi(bare: Path, here: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = bare / "cuda/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.touch()
    root = bare / "packages/nvidia/cu13"
    for name in ("include/cublas_v2.h", "lib/libcublas.so.13", "lib/libcublasLt.so.13"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    monkeypatch.setattr("sys.path", [str(bare / "packages")])
    found = gpu.settings(here)
    assert found["CUDA_cublas_LIBRARY"] == str(root / "lib/libcublas.so.13")
    assert found["PLM_EDGE_CUDA_LIBRARIES"] == str(root / "lib")


def test_nvcc_may_be_a_script_elsewhere(bare: Path, here: Target) -> None:
    """It says where the toolkit is, with its cuBLAS and the libraries that the engine needs."""
    home = bare / "opt/cuda-13"
    for name in ("include/cublas_v2.h", "lib/libcudart.so.13"):
        (home / name).parent.mkdir(parents=True)
        (home / name).touch()
    (home / "lib64").symlink_to("lib")
    nvcc = bare / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho '#$ TOP={home}/bin/..' >&2\n")
    nvcc.chmod(0o755)
    (home / "bin").mkdir()
    assert gpu.settings(here) == {
        "CMAKE_CUDA_COMPILER": str(nvcc),
        "PLM_EDGE_CUDA_LIBRARIES": str(home / "lib"),
    }


def test_cuda_for_another_architecture(here: Target) -> None:
    other = "jetson-orin-nano" if machine() == "x86_64" else "rtx4090"
    fix = refused(target_of(find(other))).fix
    assert f"plm-edge engine build --device {other} --no-gpu" in fix


def test_no_vulkan(bare: Path, here: Target) -> None:
    assert "glslc" in refused(dataclasses.replace(here, backend="vulkan")).fix


def test_no_metal(bare: Path, here: Target) -> None:
    assert "xcode-select" in refused(dataclasses.replace(here, backend="metal")).fix


def test_without_a_gpu() -> None:
    assert gpu.settings(target_of(find("rpi5"))) == {}


def test_cuda_is_configured_and_compiles(here: Target, tmp_path: Path, own_cache: Path) -> None:
    """Where nvcc and cuBLAS are: the whole configuration, and one file of the GPU's kernels."""
    try:
        extra = gpu.settings(here)
    except PlmEdgeError as error:
        # a machine without them must say so, and that is what can be tested there
        assert "cuBLAS" in error.what or "CUDA's compiler" in error.what  # noqa: PT017
        return
    made = build.configure(here, (), extra, tmp_path)
    ninja = tools.build_tool("ninja")
    command = [str(ninja), "-C", str(made), "-t", "targets", "all"]
    targets = subprocess.run(command, capture_output=True, text=True)
    names = [line.split(":")[0] for line in targets.stdout.splitlines()]
    wanted = [name for name in names if name.endswith("/scale.cu.o")]
    assert wanted
    done = subprocess.run([ninja, "-C", made, *wanted], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
