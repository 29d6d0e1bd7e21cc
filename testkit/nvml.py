"""A library that stands for NVIDIA's NVML, and says so (nvml-simulated.c)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml-simulated.c")
WATTS = 100  # of each GPU, always


def library(folder: Path) -> Path:
    """Compiles it into a folder, under NVML's own name."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    made = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, SOURCE], check=True)
    return made
