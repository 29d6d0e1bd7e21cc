"""How long a model takes to load, ours and stock llama.cpp's, in turns.

    python -m benchmarks.load [--rounds 7] [--edge GGUF] [--stock GGUF] [--no-stock]

Of the models of benchmarks/kernels.py, which are made where they are missing. Each load is a
process of its own:

- plm-edge: `Session.open`, as `plm-edge run` does, split by stage (benchmarks/load_stages.py);
- engine: the engine alone (native/turns.cpp), ours and stock; and its vocabulary alone;
- server: llama-server as `plm-edge serve` starts it, until it answers (benchmarks/load_server.py).

The file is in the page cache in huge pages, in small ones, or not at all. In huge ones it is after
it was read by a load of ours from the disk, where the file system has such pages; in small ones
after a download or a copy. What cannot be had here is said. After each load some tokens are
decoded, since a load that leaves work to the first tokens is none.

Writes benchmarks/results/load.json, from which BENCHMARKS.md is made again, unless --out says
where.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import (
    beforehand,
    load_report,
    load_server,
    machine,
    origin,
    page_cache,
    prepare,
    report,
)
from benchmarks.refusal import three_lines
from plm_edge.bench.stock import build_stock
from plm_edge.bench.worker.process import Process
from plm_edge.bench.worker.turns import Config, Engine
from plm_edge.engine import library
from plm_edge.machine.threads import default_threads
from plm_edge.serve import program
from testkit.checkout import ROOT

SCHEMA = "plm-edge/benchmark-load/1"
CTX = 1024
SETTLE = 0.2  # seconds until what ended has given its memory back


@dataclass(frozen=True)
class Side:
    """Who loads what.

    Attributes:
        libraries: the folder of an engine's, or the program llama-server; None: plm-edge from
            Python.
        states: of the page cache in which it is measured.
        load_mode: llama.cpp's name of how an engine loads.
    """

    name: str
    model: Path
    libraries: Path | None
    states: tuple[str, ...]
    load_mode: str = "auto"


def sides(
    models: dict[str, Path], ours: Path, stock: Path | None, server: Path | None
) -> list[Side]:
    """Everyone who is measured: stock with each of its ways to load."""
    all_states = ("huge", "small", "cold")
    edge = models["edge"]
    found = [
        Side("plm-edge", edge, None, all_states),
        Side("engine", edge, ours, all_states),
        Side("engine, read", edge, ours, ("small",), "none"),
        Side("engine, mapped", edge, ours, ("small",), "mmap"),
    ]
    if server is not None:
        found += [
            Side("server", edge, server, ("huge", "small")),
            Side("server, read", edge, server, ("huge", "small"), "none"),
        ]
    if stock is not None:
        found += [
            Side("stock, mapped", models["stock"], stock, ("small", "cold"), "mmap"),
            Side("stock, read", models["stock"], stock, ("small", "cold"), "none"),
        ]
    return found


def bring(model: Path, state: str) -> str | None:
    """Brings a file into a state of the page cache; why not, where that cannot be had."""
    if not page_cache.drop(model):
        return "the system does not take the file out of the page cache"
    if state == "small":
        page_cache.read(model)
    if state == "huge":
        page_cache.read_in_huge_pages(model)
        share = page_cache.huge_share(model)
        if share < 0.9:
            return f"{100 * share:.0f} % of the file come in huge pages"
    return None


def once(side: Side, threads: int, tokens: int) -> dict[str, Any]:
    """One load, in a process of its own."""
    time.sleep(SETTLE)
    if side.libraries is None:
        command = [sys.executable, "-m", "benchmarks.load_stages", str(side.model)]
        command += ["--tokens", str(tokens), "--started", str(time.monotonic())]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    if side.libraries.is_file():
        return load_server.once(side.model, side.libraries, threads, CTX, tokens, side.load_mode)
    config = Config("", "", flash=False, load_mode=side.load_mode)
    with Engine(side.libraries, side.model, config, threads, CTX) as engine:
        decode = tokens / engine.generate(0, tokens)
        memory = engine.memory()
    names = ("VmHWM", "RssAnon", "RssFile")
    return {
        "load_s": engine.loaded["load_s"],
        "stages": {"model": engine.loaded["model_s"]},
        "decode_tps": decode,
        **{name: memory[name] for name in names},
    }


def vocabulary(side: Side) -> float:
    """Seconds that the vocabulary alone takes."""
    with Process(side.libraries) as process:
        process.send([{"do": "vocabulary", "model": str(side.model)}])
        answer = process.read()
    assert answer is not None
    return float(answer["seconds"])


def disk(model: Path) -> float | None:
    """GB/s (1e9) at which a file comes from the disk, read by four threads; None: it is cached."""
    if not page_cache.drop(model):
        return None
    started = time.perf_counter()
    page_cache.read(model)
    return model.stat().st_size / 1e9 / (time.perf_counter() - started)


def measure(all_sides: list[Side], rounds: int, threads: int, tokens: int) -> dict[str, Any]:
    """Samples of all states and sides, in turns within a state."""
    samples: list[dict[str, Any]] = []
    absent: dict[str, str] = {}
    models = {side.model for side in all_sides}
    for state in ("huge", "small", "cold"):
        here = [side for side in all_sides if state in side.states]
        if state != "cold":
            for model in {side.model for side in here}:
                if why := bring(model, state):
                    absent[state] = why
        for round_ in range(rounds if state not in absent else 0):
            for side in here[:: 1 if round_ % 2 else -1]:
                if state == "cold" and (why := bring(side.model, state)):
                    absent[state] = why
                    continue
                found = once(side, threads, tokens)
                samples.append({"state": state, "side": side.name, "round": round_, **found})
                print(
                    f"{state:6} {side.name:15} {found['load_s']:.3f} s, "
                    f"{found['decode_tps']:.1f} t/s, peak {found['VmHWM'] >> 20} MiB",
                    file=sys.stderr,
                )
    for model in models:
        page_cache.read(model)
    engines = [
        side
        for side in all_sides
        if side.libraries and side.libraries.is_dir() and side.load_mode != "none"
    ]
    return {
        "samples": samples,
        "absent": absent,
        "vocabulary_s": {side.name: [vocabulary(side) for _ in range(rounds)] for side in engines},
        "disk_gb_s": [disk(all_sides[0].model) for _ in range(3)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=16, help="decoded after each load")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench", help="models, builds")
    parser.add_argument("--edge", type=Path, help="a model in the edge layout that exists")
    parser.add_argument("--stock", type=Path, help="one in the stock layout")
    parser.add_argument("--no-stock", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    out = args.out or report.RESULTS / "load.json"
    beforehand.out(out)
    for path in filter(None, (args.edge, args.stock)):
        beforehand.model(path)
    engine = library.load()
    given = {"edge": args.edge, "stock": args.stock}
    layouts = ("edge",) if args.no_stock else prepare.LAYOUTS
    missing = [layout for layout in layouts if given[layout] is None]
    made = prepare.prepare(args.folder, None, False, missing)[0] if missing else {}
    models = {layout: given[layout] or made[layout] for layout in layouts}
    stock = None if args.no_stock else build_stock(args.folder / "stock")
    load = machine.load()
    all_sides = sides(models, engine.folder, stock, program.present())
    found = measure(all_sides, args.rounds, args.threads, args.tokens)
    result = {
        "schema": SCHEMA,
        **origin.taken("load"),
        "machine": machine.facts(args.threads)
        | {"file_system": page_cache.file_system(args.folder)},
        "load_average": {"before": load, "after": machine.load()},
        "model_bytes": {layout: path.stat().st_size for layout, path in models.items()},
        "tokens": args.tokens,
        **found,
    }
    report.keep(out, result)
    print(load_report.section(result))


if __name__ == "__main__":
    with three_lines():
        main()
