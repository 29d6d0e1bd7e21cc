"""Ours against stock llama.cpp of the same pin, in turns, on a synthetic PLM-1.8B.

    python -m benchmarks.kernels [--quick] [--minutes 18] [--isa avx2]
                                                    (make bench-kernels does all of it)

Prefill, decode, memory, ablations of ours, what decode must read and how fast this machine reads.
Writes raw samples to benchmarks/results/kernels.json and makes BENCHMARKS.md from them again.
`--quick` measures little, at short contexts, into build/bench: to try the program, not to report.
`--isa` compiles both engines for that instruction set alone, and writes kernels-ISA.json.

The first run also builds stock llama.cpp and makes the models (some minutes, kept in build/bench);
that is timed apart. `--minutes` bounds the measurement: on a slow machine the ablations' contexts
become shorter first, then fewer pairs of long prefills are taken; the result file says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import beforehand, isa, machine, origin, prepare, report, required_bytes
from benchmarks.campaign import Campaign, Plan
from benchmarks.refusal import three_lines
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.stock import build_stock
from plm_edge.bench.worker.process import environment
from plm_edge.engine import library
from plm_edge.machine import memory
from plm_edge.machine.threads import default_threads
from testkit.checkout import ROOT

SCHEMA = "plm-edge/benchmark-kernels/2"
PROGRAMS = ROOT / "build/engine/bin"
BANDWIDTH = "bench-plm-bandwidth"
NEEDED_MEMORY = 11_000_000_000  # four engines are loaded at once
FULL = Plan(rounds=5, middle=2048, end=4096, decode_tokens=48, profile_tokens=64)
QUICK = Plan(rounds=2, middle=256, end=768, decode_tokens=8, profile_tokens=16)


def check_machine() -> None:
    """Ends early where the measurement cannot end well."""
    available = memory.available().bytes
    if available < NEEDED_MEMORY:
        raise PlmEdgeError(
            "there is too little memory for the benchmark",
            f"{available / 1e9:.1f} GB are available, {NEEDED_MEMORY / 1e9:.0f} GB are needed",
            "end other programs, or use a machine with 16 GB",
            ExitCode.RESOURCES,
        )
    if not (PROGRAMS / BANDWIDTH).is_file():
        raise PlmEdgeError(
            f"{BANDWIDTH} is not built",
            f"{PROGRAMS} does not have it",
            "run `make bench-kernels`, which builds it",
            ExitCode.ENVIRONMENT,
        )


def measure(
    libraries: dict[str, Path], models: dict[str, Path], plan: Plan, threads: int, minutes: float
) -> dict[str, Any]:
    """All measurements, in the order that fits the time."""
    started, ticks = time.monotonic(), machine.cpu_times()
    load, facts = machine.load(), machine.facts(threads)
    reader, reps = PROGRAMS / BANDWIDTH, 3 if plan is QUICK else 9
    bandwidth = [machine.read_bandwidth(reader, threads, reps)]
    now = machine.BandwidthNow(reader, threads, bandwidth[0])
    campaign = Campaign(libraries, models, threads, plan, now)
    campaign.calibrate()
    campaign.compare(started + 60 * minutes)
    bandwidth.append(machine.read_bandwidth(reader, threads, reps))
    return {
        "machine": facts,
        "load_average": {"before": load, "after": machine.load()},
        "steal_share": machine.steal_share(ticks, machine.cpu_times()),
        "seconds": round(time.monotonic() - started, 1),
        "bandwidth": bandwidth,
        **campaign.result(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short trial; reports nothing")
    parser.add_argument("--minutes", type=float, default=18, help="bound of the measurement")
    parser.add_argument("--threads", type=int, help="default: one for each physical core")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench", help="models, builds")
    parser.add_argument("--checkpoint", type=Path, help="a synthetic checkpoint that exists")
    parser.add_argument("--keep-checkpoint", action="store_true", help="do not delete it (3.7 GB)")
    parser.add_argument("--isa", choices=isa.SETTINGS, help="default: all that the CPU has")
    parser.add_argument("--stock", type=Path, help="folder of a stock build (libllama.so)")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/kernels.json")
    parser.add_argument("--prepare", action="store_true", help="build and convert; measure nothing")
    args = parser.parse_args()
    run(args)


def run(args: argparse.Namespace) -> None:
    check_machine()
    name = f"kernels-{args.isa}" if args.isa else "kernels"
    default = args.folder / f"{name}-quick.json" if args.quick else report.RESULTS / f"{name}.json"
    out = args.out or default
    beforehand.out(out)
    if args.stock:
        environment(args.stock)
    engine = library.load()
    begun = time.monotonic()
    if args.isa:
        libraries = isa.build(args.isa, args.folder)
    else:
        stock = args.stock or build_stock(args.folder / "stock")
        libraries = {"ours": engine.folder, "stock": stock}
    preparation = {"build stock llama.cpp": round(time.monotonic() - begun, 1)}
    models, seconds = prepare.prepare(args.folder, args.checkpoint, args.keep_checkpoint)
    preparation |= seconds
    print(f"-- prepared in {time.monotonic() - begun:.0f} s: {preparation}", file=sys.stderr)
    if args.prepare:
        return
    threads = args.threads or default_threads()
    plan = QUICK if args.quick else FULL
    found = measure(libraries, models, plan, threads, args.minutes)
    zeros = found["zeros"]["decode_mean"]
    result = {
        "schema": SCHEMA,
        "synthetic": True,
        "quick": args.quick,
        "isa": args.isa,
        **origin.taken("kernels"),
        "pin": engine.info.pin,
        "tree": engine.info.tree,
        "compiler": engine.info.compiler,
        "quant": prepare.QUANT,
        "model_bytes": {layout: path.stat().st_size for layout, path in models.items()},
        "preparation_s": preparation,
        "weights_bytes_per_token": {
            "sparse": required_bytes.weights(
                *(models["edge"], zeros, found["zeros"]["low_read"], found["zeros"]["head_read"])
            ),
            "dense": required_bytes.weights(models["stock"], 0.0),
        },
        **found,
    }
    report.keep(out, result)
    print(f"-- measured in {result['seconds']:.0f} s: {out}", file=sys.stderr)
    print(report.sections()["kernels"](result))


if __name__ == "__main__":
    with three_lines():
        main()
