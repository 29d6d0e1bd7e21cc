"""PLM-1.8B in our engine beside models of its size in stock llama.cpp, in turns.

    python -m benchmarks.peers [--quick] [--minutes 22]       (make bench-peers does all of it)

Qwen2.5-1.5B, Llama-3.2-1B, Gemma-2-2B and SmolLM2-1.7B: their shapes with synthetic weights, in
Q4_K_M. First each model's best settings are found by trying, then all of them take turns: prefill
of 512 tokens, decode at 0, 2048 and 4096 tokens; peak memory, and what a token reads. Writes raw
samples to benchmarks/results/peers.json and makes BENCHMARKS.md from them again. `--quick` measures
little, at short contexts, into the folder of the models: to try the program, not to report.

Models are made first (6 GB in build/bench, kept for the next time: `make clean` removes them; 4 GB
more while PLM's checkpoint is there), and stock llama.cpp is built in the user's cache
(PLM_EDGE_STOCK_DIR names another folder). That is timed apart. `--minutes` bounds the measurement:
on a slow machine it takes fewer rounds, and the result says how many.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import beforehand, machine, origin, prepare, report
from benchmarks.peers_shapes import SHAPES
from benchmarks.peers_turns import Model, Plan, Turns
from benchmarks.refusal import three_lines
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.stock import build_stock
from plm_edge.bench.worker.process import environment
from plm_edge.engine import library
from plm_edge.machine import cores, memory
from plm_edge.machine.threads import default_threads
from plm_edge.model import gguf_file
from testkit.checkout import ROOT

SCHEMA = "plm-edge/benchmark-peers/1"
OURS = "PLM-1.8B"
BESIDES_WEIGHTS = 1_000_000_000  # bytes of a loaded model: cache, buffers, vocabulary


def plan(quick: bool, threads: int | None) -> Plan:
    """How much to measure.

    Args:
        threads: all that are to be tried; None: one a core, then one a CPU or one less.
    """
    usual = threads or default_threads()
    other = cores.logical() if cores.logical() != usual else usual - 1
    tried = (usual, other) if threads is None and other else (usual,)
    if quick:
        return Plan(rounds=2, middle=256, end=768, decode_tokens=8, threads=tried)
    return Plan(rounds=5, middle=2048, end=4096, decode_tokens=32, threads=tried)


def check_memory(models: list[Model]) -> None:
    """Ends early where the models cannot all be loaded at once."""
    available = memory.available().bytes
    needed = sum(model.file.stat().st_size + BESIDES_WEIGHTS for model in models)
    if available < needed:
        raise PlmEdgeError(
            "there is too little memory for the benchmark",
            f"{available / 1e9:.1f} GB are available, {needed / 1e9:.0f} GB are needed",
            "end other programs, use a machine with 16 GB, or take fewer --models",
            ExitCode.RESOURCES,
        )


def measure(models: list[Model], how: Plan, minutes: float) -> dict[str, Any]:
    """Settings, then turns."""
    started, ticks = time.monotonic(), machine.cpu_times()
    load, facts = machine.load(), machine.facts(how.threads[0])
    turns = Turns(models, how)
    turns.find_settings()
    turns.measure(started + 60 * minutes)
    return {
        "machine": facts,
        "load_average": {"before": load, "after": machine.load()},
        "steal_share": machine.steal_share(ticks, machine.cpu_times()),
        "seconds": round(time.monotonic() - started, 1),
        **turns.result(),
    }


def parameters(file: Path) -> int:
    """Weights in a file but for constants of the position encoding."""
    tensors = gguf_file.read(file).tensors
    return sum(one.n_values for one in tensors if one.name != "rope_freqs.weight")


def main() -> None:
    names = [shape.name for shape in SHAPES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a short trial; reports nothing")
    parser.add_argument("--minutes", type=float, default=22, help="bound of the measurement")
    parser.add_argument("--threads", type=int, help="try this number only")
    parser.add_argument("--models", nargs="+", choices=names, default=names, metavar="NAME",
                        help=f"others than PLM: of {', '.join(names)} (default: all)")  # fmt: skip
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench", help="of the models")
    parser.add_argument("--stock", type=Path, help="folder of a stock build (libllama.so)")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/peers.json")
    parser.add_argument("--prepare", action="store_true", help="build and write; measure nothing")
    args = parser.parse_args()
    run(args)


def run(args: argparse.Namespace) -> None:
    if (args.threads is not None and args.threads < 1) or args.minutes <= 0:
        raise PlmEdgeError(
            "nothing can be measured so",
            f"--threads is {args.threads}, --minutes {args.minutes:g}",
            "give 1 or more threads, and more than 0 minutes",
            ExitCode.USAGE,
        )
    default = args.folder / "peers-quick.json" if args.quick else report.RESULTS / "peers.json"
    out = args.out or default
    beforehand.out(out)
    if args.stock:
        environment(args.stock)
    engine = library.load()
    begun = time.monotonic()
    stock = args.stock or build_stock()
    preparation = {"build stock llama.cpp": round(time.monotonic() - begun, 1)}
    ours, seconds = prepare.prepare(args.folder, None, False, layouts=("edge",))
    preparation |= seconds
    peers, seconds = prepare.peers(args.folder, args.models)
    preparation |= seconds
    print(f"-- prepared in {time.monotonic() - begun:.0f} s: {preparation}", file=sys.stderr)
    if args.prepare:
        return
    models = [Model(OURS, "ours", engine.folder, ours["edge"])]
    models += [Model(name, "stock", stock, file) for name, file in peers.items()]
    check_memory(models)
    found = measure(models, plan(args.quick, args.threads), args.minutes)
    for model in models:
        found["models"][model.name]["parameters"] = parameters(model.file)
    result = {
        "schema": SCHEMA,
        "synthetic": True,
        "quick": args.quick,
        **origin.taken("peers"),
        "pin": engine.info.pin,
        "tree": engine.info.tree,
        "compiler": engine.info.compiler,
        "preparation_s": preparation,
        **found,
    }
    report.keep(out, result)
    print(f"-- measured in {result['seconds']:.0f} s: {out}", file=sys.stderr)
    print(report.sections()["peers"](result))


if __name__ == "__main__":
    with three_lines():
        main()
