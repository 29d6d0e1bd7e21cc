"""What forms of the embedding are worth on PLM-1.8B's shapes: bytes, memory, time.

    python -m benchmarks.embeddings_synthetic [--folder build/bench] [--model GGUF] --prepare
    python -m benchmarks.embeddings_synthetic [--folder build/bench] [--rounds 3] [--add]

The first makes the files, of the synthetic checkpoint (benchmarks/prepare.py; random weights, so
that nothing is said of quality), or of a calibrated file of it that is there. The second loads each
of them in turns, in a process of its own, and decodes from an empty context on. --add adds rounds
to what was measured. Where a meter of power is, it is read meanwhile, and what the machine takes by
itself is subtracted; on a Raspberry Pi 5 the rails of the CPU and the DRAM are shown apart.
BENCHMARKS.md is written anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import beforehand, machine, origin, prepare, report, required_bytes
from benchmarks.refusal import three_lines
from plm_edge.base.progress import NoProgress
from plm_edge.bench import meters
from plm_edge.bench.meters.host import LocalHost
from plm_edge.bench.meters.recorder import Recorder
from plm_edge.bench.worker.turns import Config, Engine
from plm_edge.converters.embed.spec import parse
from plm_edge.converters.sources import gguf_source
from plm_edge.converters.write import amend
from plm_edge.engine import library
from plm_edge.engine.options import Options
from plm_edge.engine.sparsity import low_share, zero_share
from plm_edge.machine.threads import default_threads
from plm_edge.model.gguf_file import COARSE
from plm_edge.quality import text
from plm_edge.quality.calibration import calibrate
from plm_edge.quality.embedding import Parts, embed
from testkit.checkout import ROOT

SCHEMA = "plm-edge/benchmark-embeddings-synthetic/1"
OUT = ROOT / "benchmarks/results/embeddings-synthetic.json"
PLAIN, COARSE_TOO = "q5_k, as it is", "q5_k, in two stages"
SPLIT = "split=8192:q5_k/q3_k"
# what --embed makes of the first one
FORMS = {
    "q4_k": "type=q4_k",
    "split, q5_k below token 8192, q3_k": SPLIT,
    "r1 and the same split": f"r1,{SPLIT}",
    "tt, twice, f16": "tt:ratio=2.0",
}
TWO_STAGES = {"the same split, in two stages": SPLIT}
IDLE_S = 20.0  # of the machine alone, where there is a meter


def paths(folder: Path) -> dict[str, Path]:
    """The files, by what their embedding is; the calibrated one is there first."""
    made = {PLAIN: folder / "embedding-plain.gguf"}
    for name, form in FORMS.items():
        made[name] = folder / f"embedding-{_slug(form)}.gguf"
    made[COARSE_TOO] = folder / f"plm-1.8b-synthetic-edge-{prepare.QUANT}.gguf"
    for name, form in TWO_STAGES.items():
        made[name] = folder / f"embedding-{_slug(form)}-coarse.gguf"
    return made


def _slug(form: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in form)


def make(folder: Path, model: Path | None) -> None:
    """Make the files that are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    made = paths(folder)
    if model is None:
        prepare.prepare(folder, None, True, ("edge",))
    elif not made[COARSE_TOO].exists():
        made[COARSE_TOO].symlink_to(model.resolve())
    if not made[PLAIN].exists():
        with gguf_source.open_tensors(made[COARSE_TOO]) as (content, tensors):
            kept = [t for name, t in tensors.items() if not name.startswith(COARSE)]
            keys = gguf_source.all_keys(content)
            hashes = gguf_source.hashes(content, [t.name for t in kept])
            amend.amend(*(made[PLAIN], content.architecture, keys, kept, hashes, []), NoProgress())
    for name, form in (FORMS | TWO_STAGES).items():
        if made[name].exists():
            continue
        print(f"-- {name}", file=sys.stderr, flush=True)
        if name in FORMS:
            embed(made[PLAIN], made[name], Parts(parse(form)))
        else:
            calibrate(
                made[next(one for one, of in FORMS.items() if of == form)],
                text.for_calibration(),
                made[name],
                Options(kv="f32"),
            )


def turn(path: Path, threads: int, tokens: int, recorder: Recorder) -> dict[str, Any]:
    """One process: seconds to load, tokens a second, what was read, peak memory, power."""
    config = Config("ours", "edge", flash=True, load_mode="none")
    started = time.monotonic()
    with Engine(library.load().folder, path, config, threads, 512) as engine:
        loaded = time.monotonic() - started
        begun = time.monotonic()
        seconds = engine.generate(0, tokens)
        power = recorder.between(begun, time.monotonic())
        layers = engine.rows()
        read = {"zeros": zero_share(layers) or 0.0, "low_read": low_share(layers)}
        return {
            "load_s": loaded,
            "tps": tokens / seconds,
            "peak_rss": engine.memory()["VmHWM"],
            **read,
            "head_read": engine.head_read,
            "power": {name: said for name, said in power.items() if "joules" in said},
            "seconds": seconds,
        }


def measure(
    folder: Path, threads: int, rounds: int, tokens: int, there: dict[str, Any]
) -> dict[str, Any]:
    """Rounds of turns of the files that are there, whose order is turned round each time."""
    made = {name: path for name, path in paths(folder).items() if path.exists()}
    found = meters.find(LocalHost())
    power = found.of("energy", "power")
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in there.get("rows", [])}
    for name, path in made.items():
        rows.setdefault(name, {"name": name, "file_bytes": path.stat().st_size, "turns": []})
    idle: dict[str, Any] = {}
    with Recorder(power, 0.1) as recorder:
        if power:
            begun = time.monotonic()
            time.sleep(IDLE_S)
            idle = recorder.between(begun, time.monotonic())
        for round_ in range(rounds):
            for name, path in list(made.items())[:: 1 if round_ % 2 else -1]:
                said = turn(path, threads, tokens, recorder)
                rows[name]["turns"].append(said)
                print(f"{name:40} {said['tps']:6.2f} t/s", file=sys.stderr, flush=True)
    for name, row in rows.items():
        last = row["turns"][-1]
        head_read = last["head_read"] if "two stages" in name else None
        needed = required_bytes.weights(made[name], last["zeros"], last["low_read"], head_read)
        row["token_bytes"] = sum(needed.values())
        row["head_bytes"] = needed["head"]
    return {
        "rows": [rows[name] for name in made],
        "meters": [vars(meter.describe()) for meter in power],
        "lacking": [list(one) for one in found.lacking] if not power else [],
        "idle": idle,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench")
    parser.add_argument("--model", type=Path, help="a calibrated q4_k_m of the synthetic PLM-1.8B")
    parser.add_argument("--prepare", action="store_true", help="make the files, and end")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--add", action="store_true", help="to what was measured")
    given = parser.parse_args()
    if given.model:
        beforehand.model(given.model)
    if given.prepare:
        make(given.folder, given.model)
        return
    beforehand.out(OUT)
    there = beforehand.result(OUT, SCHEMA) if given.add else {}
    load = machine.load()
    found = measure(given.folder, given.threads, given.rounds, given.tokens, there)
    result = {
        "schema": SCHEMA,
        **origin.engine(),
        "machine": machine.facts(given.threads),
        "model": "synthetic",
        "tokens": given.tokens,
        **found,
        "load": [*there.get("load", []), load, machine.load()],
    }
    report.keep(OUT, result)


if __name__ == "__main__":
    with three_lines():
        main()
