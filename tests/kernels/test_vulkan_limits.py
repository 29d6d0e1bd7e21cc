"""What of the Vulkan backend is decided by numbers alone: which heads a workgroup takes together,
and which devices ggml's shaders run on."""

from __future__ import annotations

from pathlib import Path

from . import compile

SOURCE = Path(__file__).with_name("vulkan-limits.cpp")


def test_heads_and_devices(tmp_path: Path) -> None:
    program = str(tmp_path / "vulkan-limits")
    include = f"-I{compile.TREE}/ggml/src/ggml-vulkan"
    compile.run([*compile.host().cxx, "-std=c++17", "-Wall", include, str(SOURCE), "-o", program])
    compile.all_good(program)
