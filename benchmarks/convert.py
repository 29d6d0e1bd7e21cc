"""Time and memory of a conversion, against upstream's converter followed by llama-quantize.

    python -m benchmarks.convert CKPT [--quant q4_k_m] [--threads 2] [--rounds 3] [--out FILE.json]

The programs run in turns, each in a process of its own, from the same checkpoint to the same disk,
so that what else the machine does falls on all of them. Raw samples are written, not averages: wall
and CPU seconds, peak memory (of this process and of nothing else: VmHWM), bytes written.

Upstream is run from the vendored tree; transformers is replaced by testkit/upstream's stand-in,
which makes upstream's start some seconds faster than a person would see it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import beforehand, origin, report
from benchmarks.refusal import three_lines
from plm_edge.machine import cores, cpu
from testkit import upstream as upstream_converter
from testkit.checkout import ROOT

SCHEMA = "plm-edge/benchmark-convert/1"


def measure(command: list[str], **environment: str) -> dict[str, float]:
    """Run a program; wall and CPU seconds, and the most memory that it held."""
    read, write = os.pipe()
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=write,
    )
    os.close(write)
    with os.fdopen(read, errors="replace") as errors:
        said = errors.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}:\n{said[-3000:]}")
    return {
        "wall_s": round(time.monotonic() - started, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        # Linux counts in KiB. It starts with the size of the process that forked, which is small.
        "peak_rss_bytes": usage.ru_maxrss * 1024,
    }


def ours(checkpoint: Path, out: Path, quant: str, layout: str, threads: int) -> dict[str, Any]:
    options = ["--quant", quant, "--layout", layout, "--threads", str(threads), "--out", str(out)]
    command = [sys.executable, "-m", "plm_edge", "convert", str(checkpoint), *options, "--quiet"]
    with tempfile.TemporaryDirectory() as data:  # the registry of `run` is left alone
        found = measure(command, PYTHONPATH=str(ROOT), PLM_EDGE_DATA_DIR=data)
    return {**found, "bytes": out.stat().st_size}


def upstream(checkpoint: Path, out: Path, quant: str, threads: int) -> dict[str, Any]:
    engine = ROOT / "build/engine/bin"
    middle = out.with_suffix(".middle.gguf")
    tree = ROOT / "vendor/llama.cpp/.tree"
    step = upstream_converter.command(tree, f"{checkpoint}:auto:{middle}")
    first = measure(step, **upstream_converter.ENVIRONMENT)
    tool = [engine / "llama-quantize", middle, out, quant, threads]
    second = measure([str(part) for part in tool], LD_LIBRARY_PATH=str(engine))
    written = middle.stat().st_size
    middle.unlink()
    return {
        "wall_s": round(first["wall_s"] + second["wall_s"], 3),
        "cpu_s": round(first["cpu_s"] + second["cpu_s"], 3),
        "peak_rss_bytes": max(first["peak_rss_bytes"], second["peak_rss_bytes"]),
        "steps": [first, second],
        "intermediate_bytes": written,
        "bytes": out.stat().st_size,
    }


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu.name() or "unknown",
        "cpus": cores.logical(),
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--quant", default="q4_k_m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="folder for the files; default: temporary")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/convert.json")
    given = parser.parse_args()
    beforehand.out(given.out)
    card = given.checkpoint / "README.md"
    synthetic = card.is_file() and "synthetic" in card.read_text(errors="replace").lower()
    result: dict[str, Any] = {
        "schema": SCHEMA,
        **origin.engine(),
        "machine": machine(),
        "checkpoint": given.checkpoint.name,
        "synthetic": synthetic,
        "quant": given.quant,
        "threads": given.threads,
        "samples": {"stock": [], "edge": [], "upstream": []},
    }
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        out = Path(folder) / "out.gguf"
        for _ in range(given.rounds):
            for name, samples in result["samples"].items():
                if name == "upstream":
                    sample = upstream(given.checkpoint, out, given.quant, given.threads)
                else:
                    sample = ours(given.checkpoint, out, given.quant, name, given.threads)
                samples.append(sample | {"load_after": os.getloadavg()[0]})
                print(name, json.dumps(sample), file=sys.stderr)
                out.unlink()
    report.keep(given.out, result)
    print(json.dumps({"out": str(given.out), "rounds": given.rounds}))


if __name__ == "__main__":
    with three_lines():
        main()
