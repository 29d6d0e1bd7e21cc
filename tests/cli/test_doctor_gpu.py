"""What `doctor` says of GPUs: of a simulated /sys, Vulkan's manifests in a folder, and a library
that stands for NVML."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from plm_edge.building import gpu_engine
from plm_edge.doctor import gpus
from plm_edge.doctor.check import Check
from plm_edge.engine import accelerators, library
from plm_edge.machine import gpu
from testkit import nvml
from testkit.cli import Cli

GIB = 1 << 30
LOOK = gpu.look


class Tree:
    """A machine's files, and the libraries that it has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nvml = [str(root / "libnvidia-ml.so.1")]
        self.loaders = [str(root / "libvulkan.so.1")]
        self.environment = {"PATH": str(root / "bin")}
        (root / "bin").mkdir()

    def write(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")

    def card(self, vendor: str, driver: str, at: str = "0000:01:00.0") -> None:
        folder = f"sys/bus/pci/devices/{at}"
        self.write(f"{folder}/vendor", vendor)
        self.write(f"{folder}/class", "0x030000")
        if driver:
            (self.root / folder / "driver").symlink_to(f"../../drivers/{driver}")

    def manifest(self, name: str) -> None:
        said = {"ICD": {"library_path": "libvulkan_x.so", "api_version": "1.3"}}
        self.write(f"usr/share/vulkan/icd.d/{name}.json", json.dumps(said))

    def look(self) -> gpu.Gpus:
        return LOOK(self.root, self.environment, self.nvml, self.loaders)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    made = Tree(tmp_path)
    monkeypatch.setattr(gpu, "look", made.look)
    monkeypatch.setattr(gpu_engine, "find", lambda: None)
    return made


def checks() -> dict[str, Check]:
    return {check.name: check for check in gpus.checks(engine_is_there=False)}


def test_a_machine_without_any(tree: Tree) -> None:
    (check,) = checks().values()
    assert (check.name, check.status) == ("gpu", "ok")
    assert check.value.startswith("none:")
    assert "models run on the CPU" in check.why
    assert "libvulkan1" in check.fix
    assert tree.look().no_nvml


def test_an_nvidia_card_that_all_is_there_for(tree: Tree) -> None:
    tree.card("0x10de", "nvidia")
    nvml.library(tree.root)
    tree.write("bin/nvidia-smi", "#!/bin/sh")
    (tree.root / "bin/nvidia-smi").chmod(0o755)
    found = checks()
    assert found["gpu"].value == (
        "Simulated GPU 1, 6.0 GiB free of 8.0 GiB, driver nvidia simulated 1.0"
    )
    assert set(found) == {"gpu", "GPU engine"}
    assert found["GPU engine"].fix == "plm-edge engine build, then --gpu all"


def test_an_nvidia_card_without_its_driver(tree: Tree) -> None:
    tree.card("0x10de", "nouveau")
    found = checks()
    assert found["gpu"].value == "NVIDIA GPU 0000:01:00.0, driver nouveau"
    assert found["NVIDIA driver"].status == "note"
    assert "libnvidia-ml.so.1" in found["NVIDIA driver"].why
    assert "apt install nvidia-driver" in found["NVIDIA driver"].fix


def test_without_nvidia_smi(tree: Tree) -> None:
    tree.card("0x10de", "nvidia")
    nvml.library(tree.root)
    assert "Debian: apt install nvidia-smi" in checks()["nvidia-smi"].fix


def test_an_amd_card(tree: Tree) -> None:
    """Its memory by the kernel; then what Vulkan lacks, one thing after the other."""
    tree.card("0x1002", "amdgpu")
    folder = "sys/bus/pci/devices/0000:01:00.0"
    tree.write(f"{folder}/mem_info_vram_total", str(16 * GIB))
    tree.write(f"{folder}/mem_info_vram_used", str(4 * GIB))
    found = checks()
    assert found["gpu"].value == ("AMD GPU 0000:01:00.0, 12.0 GiB free of 16.0 GiB, driver amdgpu")
    assert (found["Vulkan"].status, found["Vulkan"].value) == ("note", "no loader")
    assert "libvulkan1" in found["Vulkan"].fix
    tree.loaders[0] = "libc.so.6"  # any library that there is
    tree.manifest("lvp_icd.x86_64")
    tree.write("usr/share/vulkan/icd.d/broken.json", "{")
    assert "engine build --gpu vulkan" in checks()["GPU engine"].fix
    lacking = checks()["Vulkan"]
    assert lacking.value == "no driver of a GPU"
    assert "lvp_icd.x86_64 computes on the CPU" in lacking.why
    tree.manifest("radeon_icd.x86_64")
    assert checks()["Vulkan"] == Check("Vulkan", "ok", "drivers: radeon_icd.x86_64")


def test_drivers_may_be_named_by_a_variable(tree: Tree, tmp_path: Path) -> None:
    tree.manifest("radeon_icd.x86_64")
    tree.write("mine/intel_icd.json", json.dumps({"ICD": {"library_path": "x"}}))
    tree.environment["VK_DRIVER_FILES"] = str(tmp_path / "mine/intel_icd.json")
    assert tree.look().vulkan == ("intel_icd",)


def test_a_chip_of_a_board(tree: Tree) -> None:
    """A Raspberry Pi's GPU is on no bus, and nobody is told to build an engine for it."""
    node = tree.root / "sys/class/drm/renderD128/device"
    node.mkdir(parents=True)
    (node / "driver").symlink_to("../../../bus/platform/drivers/v3d")
    (found,) = checks().values()
    assert found.value == "Broadcom V3D, driver v3d"
    assert "more shared memory than it has" in found.why


def test_a_render_node_that_may_not_be_opened(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.card("0x1002", "amdgpu")
    tree.write("dev/dri/renderD128", "")
    assert "render nodes" not in checks()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert checks()["render nodes"].value == "/dev/dri/renderD128 may not be opened"
    assert "usermod" in checks()["render nodes"].fix


def test_the_engines(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept build with a GPU's backend; the loaded one, with and without a GPU."""
    tree.card("0x1002", "amdgpu")
    monkeypatch.setattr(gpu_engine, "find", lambda: tmp_path / "kept")
    said = checks()["GPU engine"]
    assert (said.status, "--gpu all" in said.value) == ("ok", True)
    monkeypatch.setattr(accelerators, "has_backend", lambda _: True)
    monkeypatch.setattr(library, "find", lambda: tmp_path)
    monkeypatch.setattr(library, "load", lambda: None)
    card = accelerators.Accelerator("Vulkan0", "a card", 6 * GIB, 8 * GIB, handle=1)
    monkeypatch.setattr(accelerators, "gpus", lambda _: [card])
    loaded = {check.name: check for check in gpus.checks(engine_is_there=True)}
    assert loaded["GPU engine"].value == "Vulkan0 (a card), 6.0 GiB free"
    monkeypatch.setattr(accelerators, "gpus", lambda _: [])
    (lacking,) = [c for c in gpus.checks(engine_is_there=True) if c.name == "GPU engine"]
    assert (lacking.status, lacking.value) == ("note", "it finds no GPU")


def test_here(cli: Cli) -> None:
    """Whatever this machine has is said, in one line at least."""
    report = json.loads(cli("doctor", "--json").stdout)
    assert [one for one in report["checks"] if one["name"] == "gpu"]
