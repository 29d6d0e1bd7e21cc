"""What SPA costs and what it is worth: results/spa.json.

    python -m benchmarks.spa states [MODEL …]   decoding with the states of 8 layers, and without
    python -m benchmarks.spa worth [MODEL]      perplexities, as `plm-edge spa eval`; with --lora N
                                                and --replace as long again for each seed
    python -m benchmarks.spa train [MODEL …]    minutes of `plm-edge spa train` for 20,000 tokens
    python -m benchmarks.spa link [MODEL]       tokens a second by round trip and overrides
    python -m benchmarks.spa loss [MODEL]       seconds without a token where a link is harmed

MODEL is SmolLM2-135M-Instruct where none is given. Each part takes its place in the result beside
the others. The personal texts are this project's pages at a commit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import beforehand, machine, origin, report, spa_link, spa_train
from benchmarks.refusal import three_lines
from plm_edge.base.progress import NoProgress
from plm_edge.engine.options import Options, never
from plm_edge.engine.session import Session
from plm_edge.engine.states import States
from plm_edge.spa import evaluation, making
from plm_edge.spa.codec import choose_layers
from plm_edge.spa.training import Settings
from plm_edge.store import bundled
from testkit import chat_model
from testkit.checkout import ROOT

RESULT = report.RESULTS / "spa.json"
SCHEMA = "plm-edge/benchmark-spa/1"
COMMIT = "8fb459af9138"  # whose pages are the personal texts
WRITTEN_BY_PROGRAMS = ("docs/cli.md", "docs/devices.md")
PROMPT = "The engine reads the file, and then it"


def personal() -> list[str]:
    """The pages that people wrote, at `COMMIT`."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True)
        return done.stdout.decode()

    names = git("ls-tree", "--name-only", COMMIT, "docs/").split()
    pages = sorted(n for n in names if n.endswith(".md") and n not in WRITTEN_BY_PROGRAMS)
    return [git("show", f"{COMMIT}:{name}").removesuffix("\n") for name in pages]


def worth(model: Path, seeds: int, lora_seeds: int, replace: bool, threads: int) -> dict[str, Any]:
    """The table of `plm-edge spa eval`, with every seed's figures."""
    engine = Options(threads=threads)
    started = time.perf_counter()
    bars = making.Bars(NoProgress(), NoProgress())
    given = making.read_texts(model, personal(), None, engine, bars)
    general = making.read_general(model, given, engine)
    read_s = time.perf_counter() - started
    figures = evaluation.evaluate(
        given, general, Settings(), seeds, lambda _: NoProgress(), never,
        lora_seeds=lora_seeds, replace_logits=replace,
    )  # fmt: skip
    return {
        **asdict(figures), "seeds": seeds, "read_s": read_s, "commit": COMMIT,
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
    return {"name": model.name, "seconds_a_token": found, "layers": layers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["states", "worth", "train", "link", "loss", "device"])
    parser.add_argument("given", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lora", type=int, default=0, help="with how many seeds")
    parser.add_argument("--replace", action="store_true", help="the paper's form, too")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    if sys.argv[1:2] == ["lockstep"]:
        spa_link.lockstep()
    arguments = parser.parse_args()
    if arguments.part == "device":
        port, path, rate, count = arguments.given
        print(json.dumps(spa_link.device(int(port), Path(path), float(rate), int(count))))
        return
    model = Path(arguments.given[0]) if arguments.given else chat_model.gguf()
    for name in arguments.given:
        beforehand.model(Path(name))
    beforehand.out(RESULT)
    load = machine.load()
    found: dict[str, Any]
    if arguments.part == "states":
        given = [Path(name) for name in arguments.given] or [model]
        found = {"models": [states(path, arguments.threads) for path in given]}
    elif arguments.part == "link":
        found = spa_link.link(model, arguments.threads, arguments.tokens)
    elif arguments.part == "loss":
        found = spa_link.loss(model, arguments.threads, arguments.tokens)
    elif arguments.part == "train":
        given = [Path(name) for name in arguments.given] or [bundled.model(), model]
        found = {"models": [spa_train.train(m, personal(), arguments.threads) for m in given]}
    else:
        found = worth(model, arguments.seeds, arguments.lora, arguments.replace, arguments.threads)
    found |= {
        "model": " and ".join(one["name"] for one in found.get("models", [{"name": model.name}])),
        "machine": machine.facts(arguments.threads),
        "load_average": {"before": load, "after": machine.load()},
        **origin.taken("spa"),
    }
    known = report.read(RESULT) if RESULT.is_file() else {}
    known = {**known, "schema": SCHEMA, arguments.part: found}
    report.keep(RESULT, known)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with three_lines():
        main()
