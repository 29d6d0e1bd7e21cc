"""Whether an NVIDIA GPU computes what the CPU computes, and how fast: 8 minutes at most.

    python -m benchmarks.gpu_check --device rtx4090 --prepare
    python -m benchmarks.gpu_check --device rtx4090 --edge GGUF --stock GGUF [--minutes 8]

The first builds the engine for a profile's GPU and keeps it; it needs CUDA's compiler and no GPU,
so that a rented one waits for nothing. The second, in this order, as far as the minutes reach:

1. ggml's own comparison of our operation with the CPU's, on the GPU;
2. greedy tokens of both files, three times on the GPU, once without CUDA graphs, and on the CPU;
3. llama-bench: prompts of 512 and 2048 tokens, 128 tokens of generation, after 0, 4096 and 16384
   tokens, with caches of f16 and q8_0, for both files; energy by the board's counter beside each.

Writes benchmarks/results/gpu-NAME.json. A step that was not reached is null there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import machine
from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import build
from plm_edge.building.cache import KeptBuild
from plm_edge.building.target import target_of
from plm_edge.devices.profiles.profile import find
from plm_edge.engine.library import LIB_DIR_VARIABLE

SCHEMA = "plm-edge/benchmark-gpu/1"
ROOT = machine.ROOT
PROMPT = "def fibonacci(n):"
TOKENS = 64
DEPTHS = (0, 4096, 16384)
CACHES = ("f16", "q8_0")
PROGRAMS = (*build.PROGRAMS, "test-backend-ops")
ASKED = "name,driver_version,memory.total,compute_cap"
LEAST_S = 5.0  # a step with less time left is not begun


@dataclass(frozen=True)
class Clock:
    """The time that is left of the minutes that were given."""

    ends: float

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def run(
        self, command: Sequence[str], **variables: str
    ) -> subprocess.CompletedProcess[str] | None:
        """Runs a command with its output caught; None if the time did not suffice."""
        if self.left() < LEAST_S:
            return None
        try:
            return subprocess.run(
                [*command],
                env=os.environ | variables,
                capture_output=True,
                text=True,
                timeout=self.left(),
            )
        except subprocess.TimeoutExpired:
            return None


def gpu() -> dict[str, str]:
    """What the driver says of the first GPU.

    Raises:
        PlmEdgeError: there is none (code ENVIRONMENT).
    """
    try:
        command = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_gpu(str(error)) from error
    first = [*done.stdout.splitlines(), ""][0]
    names, values = ASKED.split(","), [value.strip() for value in first.split(",")]
    # without a driver nvidia-smi says so on standard output
    if done.returncode or len(values) != len(names):
        raise _no_gpu(first or "it printed nothing")
    return dict(zip(names, values, strict=True))


def _no_gpu(why: str) -> PlmEdgeError:
    return PlmEdgeError(
        "there is no NVIDIA GPU here",
        f"nvidia-smi names none: {why}",
        "run this on a machine that has one and its driver",
        ExitCode.ENVIRONMENT,
    )


def energy_mj() -> int | None:
    """The board's counter of energy in mJ, since its driver was loaded; None before Volta, or where
    the driver does not answer."""
    code = (
        "import ctypes; n = ctypes.CDLL('libnvidia-ml.so.1'); n.nvmlInit_v2(); "
        "d = ctypes.c_void_p(); n.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(d)); "
        "e = ctypes.c_ulonglong(); "
        "assert n.nvmlDeviceGetTotalEnergyConsumption(d, ctypes.byref(e)) == 0; print(e.value)"
    )
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return None
    return int(done.stdout) if done.returncode == 0 else None


def operations(clock: Clock, programs: Path) -> dict[str, Any] | None:
    """test-backend-ops of our operation: how many cases, and which failed."""
    program = str(programs / "test-backend-ops")
    done = clock.run([program, "test", "-o", "MUL_MAT_SPARSE_T", "-b", "CUDA0"])
    if done is None:
        return None
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    # a case is OP(…): OK; what else ends so is the verdict on all of them
    lines = [line.strip() for line in text.splitlines()]
    failed = [line for line in lines if "FAIL" in line]
    cases = sum(line.endswith("): OK") for line in lines)
    return {"exit": done.returncode, "cases": cases, "failed": failed[:20]}


def answers(clock: Clock, model: Path, libraries: Path) -> dict[str, Any]:
    """The greedy text of each way to compute; null where the time did not suffice."""
    ask = [sys.executable, "-m", "plm_edge", "run", str(model), "--prompt", PROMPT, "--json"]
    ask += ["-n", str(TOKENS), "--temp", "0"]
    on_gpu = {LIB_DIR_VARIABLE: str(libraries)}
    ways = {
        "cpu": (["--gpu", "off"], {}),
        **{f"gpu {n}": (["--gpu", "all"], on_gpu) for n in (1, 2, 3)},
        "gpu without graphs": (["--gpu", "all"], on_gpu | {"GGML_CUDA_DISABLE_GRAPHS": "1"}),
    }
    found: dict[str, Any] = {}
    for name, (options, variables) in ways.items():
        done = clock.run([*ask, *options], **variables)
        found[name] = None if done is None else done.stdout if done.returncode == 0 else done.stderr
    return found


def speeds(clock: Clock, model: Path, programs: Path) -> list[dict[str, Any]]:
    """llama-bench's results, a call for each cache and depth, with the energy that it took."""
    found: list[dict[str, Any]] = []
    for depth in DEPTHS:
        for kept in CACHES:
            before = energy_mj()
            done = clock.run(
                [
                    *(str(programs / "llama-bench"), "-m", str(model), "-ngl", "99", "-o", "json"),
                    *("-p", "512,2048" if depth == 0 else "512", "-n", "128", "-d", str(depth)),
                    *("-ctk", kept, "-ctv", kept, "-fa", "1", "-r", "3"),
                ]
            )
            if done is None:
                return found
            after = energy_mj()
            results = json.loads(done.stdout) if done.returncode == 0 else done.stderr[-2000:]
            taken = None if before is None or after is None else after - before
            found.append(
                {"depth": depth, "cache": kept, "energy_mj": taken, "llama_bench": results}
            )
    return found


def check(
    board: dict[str, str], kept: KeptBuild, models: dict[str, Path], minutes: float
) -> dict[str, Any]:
    """Everything that the result file holds, as far as the minutes reach."""
    clock = Clock(time.monotonic() + 60 * minutes)
    return {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "gpu": board,
        "machine": machine.facts(0),
        "source": machine.revision(),
        "operations": operations(clock, kept.programs),
        "answers": {name: answers(clock, path, kept.programs) for name, path in models.items()},
        "speeds": {name: speeds(clock, path, kept.programs) for name, path in models.items()},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", required=True, help="the profile of the GPU: devices/*.toml")
    parser.add_argument("--prepare", action="store_true", help="build for it, and nothing else")
    parser.add_argument("--edge", type=Path, help="a GGUF in the edge layout")
    parser.add_argument("--stock", type=Path, help="the same in the stock layout")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu-NAME.json")
    given = parser.parse_args(arguments)
    if not given.prepare and not (given.edge and given.stock):
        parser.error("--edge and --stock, or --prepare")
    try:
        kept, _ = build.build(target_of(find(given.device)), PROGRAMS)
        if given.prepare:
            print(kept.folder)
            return 0
        result = check(gpu(), kept, {"edge": given.edge, "stock": given.stock}, given.minutes)
    except PlmEdgeError as error:
        print(f"error: {error.what}\n  why: {error.why}\n  fix: {error.fix}", file=sys.stderr)
        return int(error.code)
    board = result["gpu"]
    name = re.sub(r"[^a-z0-9]+", "-", board["name"].lower()).strip("-")
    out = given.out or ROOT / f"benchmarks/results/gpu-{name}.json"
    files.write_text(out, json.dumps(result, indent=1) + "\n")
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
