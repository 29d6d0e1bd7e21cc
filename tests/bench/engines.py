"""A build of the engine for this machine, as for a device: what `make test` compiled."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from plm_edge.base.files import sha256
from plm_edge.building.cache import KeptBuild
from plm_edge.building.manifest import BuiltFile
from plm_edge.building.target import machine
from testkit import manifests
from testkit.checkout import ROOT

BUILT = ROOT / "build/engine/bin"
LIBRARIES = ("llama", "ggml", "ggml-base", "ggml-cpu", "ggml-rpc")


def native(folder: Path) -> KeptBuild:
    """The build for this very machine, as `engine build` would leave it in `folder`."""
    bin_ = folder / "bin"
    bin_.mkdir(parents=True)
    suffix = "dylib" if platform.system() == "Darwin" else "so"
    for name in ("plm-edge-bench", *(f"lib{library}.{suffix}" for library in LIBRARIES)):
        shutil.copy(BUILT / name, bin_ / name)
    files = tuple(
        BuiltFile(f"bin/{path.name}", path.stat().st_size, sha256(path), {}, {})
        for path in sorted(bin_.iterdir())
    )
    made = manifests.manifest(
        device="host", arch=machine(), linkage="shared", compiler="", kernels="native",
        requires=(), glibc="", files=files,
    )  # fmt: skip
    made.write(folder)
    return KeptBuild(folder, made)
