"""Whether an NVIDIA GPU computes what the CPU computes, and how fast: 8 minutes at most.

    python -m benchmarks.gpu_check --device rtx4090 --prepare
    python -m benchmarks.gpu_check --device rtx4090 --edge GGUF --stock GGUF [--minutes 8]
    python -m benchmarks.gpu_check --programs FOLDER [--stock-programs FOLDER] --edge … --stock …
    python -m benchmarks.gpu_check --dry FOLDER --backend DEVICE --edge GGUF --stock GGUF --out FILE

The first builds the engine for a profile's GPU, stock llama.cpp beside it, and a model for step 4,
and keeps them; it needs CUDA's compiler and no GPU, so that a rented one waits for nothing. The
second, in this order, as far as the minutes reach:

1. ggml's own comparison with the CPU, of our operation and of attention over a latent cache;
2. the down projection standalone, sparse and dense, with 0, 50, 90 and 95 % zeros;
3. greedy tokens of both files, three times on the GPU, once without CUDA graphs, and on the CPU;
4. logits of a model whose neurons are above what f16 holds;
5. `plm-edge bench` of both files: the GPU's memory, splits, zeros, energy by the board's counter;
6. llama-bench: prompts of 512 and 2048 tokens, 128 tokens of generation, after 0, 4096 and 16384
   tokens, with caches of f16 and q8_0, for both files, and of stock llama.cpp.

It writes benchmarks/results/gpu-NAME.json, and the section of BENCHMARKS.md that is made of it. A
step that was not reached is null there. The third does the same with programs that the first made
elsewhere, which it names, on a machine without CUDA's compiler. The fourth tries all of it in
small, with the programs in a folder and on any device that ggml knows; its result is no figure, and
belongs in no page.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import beforehand, gpu_logits, gpu_steps, machine, origin, report
from benchmarks.gpu_steps import SMALL, Bench, Clock
from benchmarks.refusal import three_lines
from plm_edge.base import folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import stock
from plm_edge.building import build, gpu
from plm_edge.building.target import Target, target_of
from plm_edge.devices.profiles.profile import find

SCHEMA = "plm-edge/benchmark-gpu/2"
PROGRAMS = (*build.PROGRAMS, "test-backend-ops")
ASKED = "name,driver_version,memory.total,compute_cap"


def board() -> dict[str, str]:
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


def kept() -> Path:
    """Where the model of step 4 is kept."""
    return folders.cache() / "gpu-check"


def stock_folder(device: str) -> Path:
    """Where stock llama.cpp for a device is kept."""
    return folders.cache() / f"stock-{device}"


def prepare(device: str) -> Path:
    """Builds all that the check needs, or finds it; the folder of our programs.

    Raises:
        PlmEdgeError: there is no such profile, or something cannot be built.
    """
    target = target_of(find(device))
    ours, _ = build.build(target, PROGRAMS)
    stock.build_stock(stock_folder(device), _cuda(target))
    gpu_logits.large(kept())
    return ours.programs


def _cuda(target: Target) -> dict[str, str]:
    """cmake's settings for stock llama.cpp with a target's CUDA. Its CPU has the embedding's lookup
    alone to compute, so it is built for any: not for the machine that compiles it."""
    names = ("GGML_CUDA", "CMAKE_CUDA")
    found = {name: value for name, value in target.settings if name.startswith(names)}
    settings = gpu.settings(target)
    libraries = settings.pop(gpu.LIBRARIES, "")
    return {**found, **settings, "CMAKE_BUILD_RPATH": libraries, "GGML_NATIVE": "OFF"}


def check(
    bench: Bench, models: dict[str, Path], stock_programs: Path | None, about: dict[str, Any]
) -> dict[str, Any]:
    """Everything that the result file holds, as far as the minutes reach.

    Args:
        models: by layout.
        stock_programs: a folder with stock llama.cpp's llama-bench; None: there is none.
        about: the GPU.
    """
    return {
        "schema": SCHEMA,
        "date": origin.now(),
        "dry": bench.size is SMALL,
        "gpu": about,
        "machine": machine.facts(0),
        "source": origin.revision(),
        "bytes": {name: path.stat().st_size for name, path in models.items()},
        "operations": gpu_steps.operations(bench),
        "products": gpu_steps.products(bench),
        "answers": {name: gpu_steps.answers(bench, path) for name, path in models.items()},
        "logits": gpu_steps.logits(bench, gpu_logits.large(kept())),
        "tool": {name: gpu_steps.tool(bench, path) for name, path in models.items()},
        "speeds": gpu_steps.speeds(bench, models, stock_programs),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--device", help="the profile of the GPU: devices/*.toml")
    where.add_argument("--programs", type=Path, help="a folder of programs, made by --prepare")
    where.add_argument("--dry", type=Path, help="a folder of programs: try all of it in small")
    parser.add_argument("--stock-programs", type=Path, help="with --programs: stock llama.cpp's")
    parser.add_argument("--prepare", action="store_true", help="build for it, and nothing else")
    parser.add_argument("--backend", default="CUDA0", help="the device, as ggml counts it")
    parser.add_argument("--edge", type=Path, help="a GGUF in the edge layout")
    parser.add_argument("--stock", type=Path, help="the same in the stock layout")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu-NAME.json")
    given = parser.parse_args(arguments)
    if given.prepare and not given.device:
        parser.error("--prepare is for --device")
    if given.stock_programs and not given.programs:
        parser.error("--stock-programs is for --programs")
    if not given.prepare and not (given.edge and given.stock):
        parser.error("--edge and --stock, or --prepare")
    if given.dry and not given.out:
        parser.error("--dry wants --out: it is no result")
    with three_lines():
        models = {"edge": given.edge, "stock": given.stock}
        if given.out:
            beforehand.out(given.out)
        for path in filter(None, models.values()):
            beforehand.model(path)
        if given.dry:
            clock = Clock(time.monotonic() + 60 * given.minutes)
            bench = Bench(clock, given.dry.resolve(), given.backend, SMALL)
            result = check(bench, models, None, {"name": given.backend})
            report.keep(given.out, result)
            print(given.out)
            return 0
        programs, stock_programs = given.programs, given.stock_programs
        if given.device:
            programs = prepare(given.device)
            stock_programs = stock_folder(given.device) / "build/bin"
        if given.prepare:
            print(programs, stock_programs, sep="\n")
            return 0
        about = board()
        clock = Clock(time.monotonic() + 60 * given.minutes)
        bench = Bench(clock, programs.resolve(), given.backend)
        result = check(bench, models, stock_programs and stock_programs.resolve(), about)
        name = re.sub(r"[^a-z0-9]+", "-", about["name"].lower()).strip("-")
        out = given.out or report.RESULTS / f"gpu-{name}.json"
        report.keep(out, result)
        print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
