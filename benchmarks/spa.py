"""What SPA costs and what it is worth: results/spa.json.

    python -m benchmarks.spa states [MODEL]     decoding with the states of 8 layers, and without
    python -m benchmarks.spa worth [MODEL]      perplexities, as `plm-edge spa eval`
    python -m benchmarks.spa compared [MODEL]   the same beside LoRA and the paper's form; slow
    python -m benchmarks.spa link [MODEL]       tokens a second by round trip and overrides

MODEL is SmolLM2-135M-Instruct where none is given. Each part takes its place in the result beside
the others. The personal texts are this project's pages at a commit; the link is a relay on this
machine that delays (testkit/relay.py).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from plm_edge.base import files
from plm_edge.base.progress import NoProgress
from plm_edge.engine.options import Options, never
from plm_edge.engine.session import Session
from plm_edge.engine.states import States
from plm_edge.machine.memory import peak_rss
from plm_edge.spa import evaluation, making, side
from plm_edge.spa import plugin as plugins
from plm_edge.spa.codec import choose_layers
from plm_edge.spa.device import Generation
from plm_edge.spa.frame import Rows
from plm_edge.spa.source import Here, Remote
from plm_edge.spa.training import Settings
from testkit import chat_model
from testkit.relay import Relay

RESULT = machine.ROOT / "benchmarks/results/spa.json"
SCHEMA = "plm-edge/benchmark-spa/1"
COMMIT = "8fb459af9138"  # whose pages are the personal texts
WRITTEN_BY_PROGRAMS = ("docs/cli.md", "docs/devices.md")
ROUND_TRIPS_MS = (0, 20, 100)
RATES = (0.0, 0.02, 0.2, 1.0)  # of overrides; 1.0 is ping-pong: nothing ahead is ever used
PROMPT = "The engine reads the file, and then it"


def personal() -> list[str]:
    """The pages that people wrote, at `COMMIT`."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=machine.ROOT, capture_output=True, check=True)
        return done.stdout.decode()

    names = git("ls-tree", "--name-only", COMMIT, "docs/").split()
    pages = sorted(n for n in names if n.endswith(".md") and n not in WRITTEN_BY_PROGRAMS)
    return [git("show", f"{COMMIT}:{name}").removesuffix("\n") for name in pages]


def worth(model: Path, seeds: int, compared: bool, threads: int) -> dict[str, Any]:
    """The table of `plm-edge spa eval`, with every seed's figures."""
    engine = Options(threads=threads)
    started = time.perf_counter()
    bars = making.Bars(NoProgress(), NoProgress())
    given = making.read_texts(model, personal(), None, engine, bars)
    general = making.read_general(model, given, engine)
    read_s = time.perf_counter() - started
    figures = evaluation.evaluate(
        given, general, Settings(), seeds, lambda _: NoProgress(), never,
        with_lora=compared, replace_logits=compared,
    )  # fmt: skip
    rows = [{**vars(row), "personal": row.personal, "general": row.general} for row in figures.rows]
    return {
        "rows": rows, "seeds": seeds, "trained": figures.trained, "personal": figures.personal,
        "general": figures.general, "read_s": read_s, "commit": COMMIT,
        "all_s": time.perf_counter() - started,
    }  # fmt: skip


def states(model: Path, threads: int, rounds: int = 5, count: int = 64) -> dict[str, Any]:
    """Seconds a token with and without the states of 8 layers, in turns."""
    found: dict[str, list[float]] = {"without": [], "layers": [], "layers and final": []}
    for _ in range(rounds):
        for how, times in found.items():
            with Session.open(model, Options(threads=threads, n_ctx=512)) as session:
                context = session.context
                layers = choose_layers(session.header)
                kept = States(session, layers) if how != "without" else None
                context.append(session.tokenize(PROMPT))
                steps = []
                for step in range(count + 8):
                    token = [int(np.argmax(context.row_logits()))]
                    started = time.perf_counter()
                    if kept is None:
                        context.append(token)
                    elif how == "layers":
                        context.append(token)
                        kept.read(1)
                    else:
                        with kept.kept():
                            context.append(token)
                            kept.read(1)
                    if step >= 8:
                        steps.append(time.perf_counter() - started)
                times.append(statistics.median(steps))
    return {"seconds_a_token": found, "layers": layers}


class Scripted:
    """Overrides at a share of the places, with the token that the base finds second likeliest."""

    def __init__(self, rate: float) -> None:
        self._rate, self._rng = rate, np.random.default_rng(1)
        self.made = 0

    def choose(self, row: Rows, base: int, before: Sequence[int], position: int) -> int:
        """See `choosing.Chooser`."""
        if self._rng.random() >= self._rate:
            return base
        self.made += 1
        return int(row.ids[0, 1])


def link(model: Path, threads: int, count: int) -> dict[str, Any]:
    """Tokens a second of one device, whose server is another process."""
    bars = making.Bars(NoProgress(), NoProgress())
    given = making.read_texts(
        model, ["a b c d"], None, Options(threads=threads), bars, public=["e f g h"]
    )
    codec = given.codec
    weights = side.initial(codec.n_states, codec.width, codec.bases.shape[2], 0)
    base = making.assemble(given, weights)
    endless = replace(base, vocabulary=replace(base.vocabulary, stops=np.array([-1], np.int32)))
    with tempfile.TemporaryDirectory() as folder:
        path, key = Path(folder) / "plugin.gguf", Path(folder) / "key"
        endless.write(path)
        files.write_text(key, "benchmark\n", files.PRIVATE)
        here = Here(model, endless, Options(threads=threads, n_ctx=512), 0.0, 0)
        direct = _device(here, endless, 0.0, count)
        command = [sys.executable, "-m", "plm_edge", "spa", "serve", "--base", str(model), "--port",
                   "0", "--plain", "--key-file", str(key), "--texts", "1", "--ctx", "512",
                   "--threads", str(threads)]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                port = int(server.stdout.readline().rpartition(":")[2])
                points = [
                    _point(port, path, rtt, rate, count) for rtt in ROUND_TRIPS_MS for rate in RATES
                ]
            finally:
                server.terminate()
    return {"direct": direct, "points": points, "tokens": count}


def _point(port: int, plugin: Path, rtt: int, rate: float, count: int) -> dict[str, Any]:
    with Relay(port, rtt / 2000) as relay:
        command = [sys.executable, "-m", "benchmarks.spa", "device", str(relay.port), str(plugin),
                   str(rate), str(count)]  # fmt: skip
        done = subprocess.run(command, cwd=machine.ROOT, capture_output=True, text=True, check=True)
    return {"rtt_ms": rtt, "rate": rate, **json.loads(done.stdout)}


def _device(source: Here | Remote, own: plugins.Plugin, rate: float, count: int) -> dict[str, Any]:
    chooser = Scripted(rate)
    made = Generation(source, chooser, own.vocabulary)
    steps = made.steps(PROMPT, count)
    next(steps)
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    for _ in steps:
        pass
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    made.source.close()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    up, down = (source.up, source.down) if isinstance(source, Remote) else (0, 0)
    return {
        "tps": (count - 1) / seconds, "overrides": chooser.made, "cpu_s_a_token": used / count,
        "rss_mib": peak_rss() / 2**20, "bytes_down_a_token": down / count, "bytes_up": up,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["states", "worth", "compared", "link", "device"])
    parser.add_argument("given", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.part == "device":
        port, path, rate, count = arguments.given
        own = plugins.read(Path(path))
        remote = Remote(f"ws://127.0.0.1:{port}", "benchmark", None, own, window=16)
        print(json.dumps(_device(remote, own, float(rate), int(count))))
        return
    model = Path(arguments.given[0]) if arguments.given else chat_model.gguf()
    load = machine.load()
    if arguments.part == "states":
        found = states(model, arguments.threads)
    elif arguments.part == "link":
        found = link(model, arguments.threads, arguments.tokens)
    else:
        found = worth(model, arguments.seeds, arguments.part == "compared", arguments.threads)
    found |= {
        "model": model.name,
        "machine": machine.facts(arguments.threads),
        "source": machine.revision(),
        "load_average": {"before": load, "after": machine.load()},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.spa " + " ".join(sys.argv[1:]),
    }
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    known = {**known, "schema": SCHEMA, arguments.part: found}
    files.write_text(RESULT, json.dumps(known, indent=1, default=list) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
