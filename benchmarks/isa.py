"""Both engines compiled for one instruction set, whatever else the machine has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.stock import build_stock
from plm_edge.machine import cpu
from plm_edge.machine.threads import default_jobs
from testkit.checkout import ROOT

AVX2 = {"GGML_AVX2": "ON", "GGML_FMA": "ON", "GGML_F16C": "ON", "GGML_BMI2": "ON"}
# ggml's names of the instructions, and Linux's of what the CPU must have
SETTINGS = {"avx2": AVX2, "avx-vnni": {**AVX2, "GGML_AVX_VNNI": "ON"}}
NEEDED = {"avx2": {"avx2", "fma", "f16c", "bmi2"}, "avx-vnni": {"avx2", "fma", "avx_vnni"}}
NAMES = {"avx2": "AVX2", "avx-vnni": "AVX-VNNI"}


def build(isa: str, folder: Path) -> dict[str, Path]:
    """Builds both for `isa`, below `folder`; twice does no more.

    Returns:
        The folders of the libraries of "ours" and "stock".

    Raises:
        PlmEdgeError: the CPU lacks the instructions, or one does not compile.
    """
    missing = NEEDED[isa] - set(cpu.flags())
    if missing:
        raise PlmEdgeError(
            f"{NAMES[isa]} cannot be measured here",
            f"the CPU does not have {', '.join(sorted(missing))}",
            "measure it on a machine that has it",
            ExitCode.ENVIRONMENT,
        )
    folder = folder.resolve()
    stock = build_stock(folder / f"stock-{isa}", {"GGML_NATIVE": "OFF", **SETTINGS[isa]})
    return {"ours": _ours(isa, folder / f"ours-{isa}"), "stock": stock}


def _ours(isa: str, folder: Path) -> Path:
    settings = {"PLM_EDGE_NATIVE": "OFF", "Python_EXECUTABLE": sys.executable, **SETTINGS[isa]}
    for command in (
        ["-S", str(ROOT), "-B", str(folder), *(f"-D{n}={v}" for n, v in settings.items())],
        ["--build", str(folder), "--parallel", str(default_jobs())],
        ["--install", str(folder), "--prefix", str(folder / "placed"), "--component", "engine"],
    ):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
            raise PlmEdgeError(
                f"the engine does not compile for {NAMES[isa]}",
                (said or ["no reason given"])[0].strip(),
                f"run it by hand: cmake {' '.join(command[:4])} …",
                ExitCode.ENVIRONMENT,
            )
    return folder / "placed/plm_edge/lib"
