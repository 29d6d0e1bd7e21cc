"""This module says which GPUs this machine has, and which parts of their drivers.

The kernel names what is on the PCI bus and what a system on a chip has; NVML tells of NVIDIA's;
Vulkan is a loader, which finds drivers by the manifests in a few folders.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plm_edge.machine.nvml import Nvml, NvmlMissing

VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x106b": "Apple"}
_DISPLAY = "0x03"  # how the class of a PCI device begins that draws or computes pictures
V3D = "Broadcom V3D"
_ON_CHIPS = {
    "v3d": V3D, "panfrost": "Arm Mali", "panthor": "Arm Mali", "msm": "Qualcomm Adreno",
    "tegra": "NVIDIA Tegra", "asahi": "Apple",
}  # fmt: skip
_LOADERS = ("libvulkan.so.1", "libvulkan.1.dylib")
_MANIFESTS = ("etc/vulkan/icd.d", "usr/share/vulkan/icd.d", "usr/local/share/vulkan/icd.d")
_SOFTWARE = ("lvp", "lavapipe", "swiftshader", "llvmpipe")


@dataclass(frozen=True)
class Chip:
    """A GPU.

    Attributes:
        name: of the product, or the vendor's.
        vendor: as in VENDORS, or a part of a chip's name.
        driver: the kernel's, by name; empty where none is bound to it.
        total: bytes of its own memory; 0 where it has none, or the driver does not say.
        free: bytes of it that are free.
    """

    name: str
    vendor: str
    driver: str
    total: int = 0
    free: int = 0


@dataclass(frozen=True)
class Gpus:
    """What this machine has.

    Attributes:
        chips: the GPUs.
        nvidia_driver: its version; empty without NVML.
        no_nvml: why NVML does not answer; empty where it does.
        nvidia_smi: whether that program is there.
        loader: whether Vulkan's loader is there.
        vulkan: Vulkan's drivers of GPUs, by the names of their manifests.
        software: those that compute on the CPU.
        closed: render nodes that this user may not open.
    """

    chips: tuple[Chip, ...]
    nvidia_driver: str
    no_nvml: str
    nvidia_smi: bool
    loader: bool
    vulkan: tuple[str, ...]
    software: tuple[str, ...]
    closed: tuple[str, ...]

    def of(self, vendor: str) -> list[Chip]:
        """Returns the GPUs of a vendor."""
        return [chip for chip in self.chips if chip.vendor == vendor]


def look(
    root: Path = Path("/"),
    environment: Mapping[str, str] = os.environ,
    nvml: Sequence[str] | None = None,
    loaders: Sequence[str] = _LOADERS,
) -> Gpus:
    """Returns what there is.

    Args:
        root: is put before every path: a test's tree.
        environment: variables that name Vulkan's drivers.
        nvml: names of NVML's library; None: its own.
        loaders: names of the library that is Vulkan's loader.
    """
    chips = [*_on_pci(root), *_on_chip(root)]
    driver = missing = ""
    try:
        opened = Nvml(nvml)
        driver = opened.driver
        boards = [
            Chip(board.name, "NVIDIA", "nvidia", board.total, board.free)
            for board in opened.boards()
        ]
        # a laptop's second GPU may be asleep: what NVML does not name, the bus still does
        rest = [chip for chip in chips if chip.vendor != "NVIDIA" or chip.driver != "nvidia"]
        chips = [*boards, *rest] if boards else chips
    except NvmlMissing as error:
        missing = str(error)
    drivers = list(_vulkan_drivers(root, environment))
    software = [name for name in drivers if any(word in name for word in _SOFTWARE)]
    return Gpus(
        chips=tuple(chips),
        nvidia_driver=driver,
        no_nvml=missing,
        nvidia_smi=shutil.which("nvidia-smi", path=environment.get("PATH", "")) is not None,
        loader=any(map(_loads, loaders)),
        vulkan=tuple(name for name in drivers if name not in software),
        software=tuple(software),
        closed=tuple(_closed(root)),
    )


def _on_pci(root: Path) -> Iterator[Chip]:
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        vendor = VENDORS.get(_read(folder / "vendor"))
        if vendor and _read(folder / "class").startswith(_DISPLAY):
            total = _number(folder / "mem_info_vram_total")  # amdgpu
            free = max(0, total - _number(folder / "mem_info_vram_used"))
            yield Chip(f"{vendor} GPU {folder.name}", vendor, _driver(folder), total, free)


def _on_chip(root: Path) -> Iterator[Chip]:
    """GPUs that are on no bus: the kernel's driver of a render node tells."""
    seen = set()
    for node in sorted((root / "sys/class/drm").glob("renderD*")):
        name = _ON_CHIPS.get(driver := _driver(node / "device"))
        if name and driver not in seen:
            seen.add(driver)
            yield Chip(name, name.split()[0], driver)


def _driver(folder: Path) -> str:
    try:
        return (folder / "driver").readlink().name
    except OSError:
        return ""


def _closed(root: Path) -> Iterator[str]:
    for node in sorted((root / "dev/dri").glob("renderD*")):
        if not os.access(node, os.R_OK | os.W_OK):
            yield f"/{node.relative_to(root)}"


def _vulkan_drivers(root: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Names of the manifests whose library is named in them: "radeon_icd.x86_64"."""
    named = environment.get("VK_DRIVER_FILES") or environment.get("VK_ICD_FILENAMES")
    if named:
        files = [Path(part) for part in named.split(os.pathsep)]
    else:
        homes = [root / folder for folder in _MANIFESTS]
        if home := environment.get("HOME"):
            homes.append(root / home.lstrip("/") / ".local/share/vulkan/icd.d")
        files = [path for home in homes for path in sorted(home.glob("*.json"))]
    for path in files:
        try:
            json.loads(path.read_text(encoding="utf-8"))["ICD"]["library_path"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        yield path.stem


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _read(path)
    return int(text) if text.isdigit() else 0
