"""This program shows whether `plm-edge bench` and llama-bench agree on one model and engine.

    python -m benchmarks.against_llama_bench MODEL [--rounds N] [--threads N]

Runs both with llama-bench's settings (pp512, tg128), and prints the ratios of the medians and of
the fastest samples, and how far each program is from itself. Needs build/engine/bin/llama-bench:
`python bootstrap.py --tests` builds it.

Other programs only ever slow a sample down, so the fastest of many is what says most on a machine
that is busy. It is known when the fastest of every other run is the fastest of the rest as well.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from benchmarks import beforehand
from benchmarks.refusal import three_lines
from plm_edge.bench import runner
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.workload import WORKLOADS, Point, Workload
from testkit.checkout import ROOT

STEADY = 0.05  # how far a program may be from itself, as a logarithm of the ratio
Run = list[float]  # samples of one call of a program, t/s


@dataclass
class Turns:
    """Runs of both programs, as many of the one as of the other."""

    ours: list[Run] = field(default_factory=list)
    theirs: list[Run] = field(default_factory=list)

    @property
    def steady(self) -> bool:
        """Whether each program agrees with itself, so that the two can be compared."""
        return max(noise(self.ours), noise(self.theirs)) <= STEADY

    @property
    def ratio(self) -> float:
        """Our fastest sample by theirs."""
        return fastest(self.ours) / fastest(self.theirs)

    @property
    def agree(self) -> bool:
        """Whether the two differ by no more than two programs can, each of which is steady."""
        return abs(math.log(self.ratio)) <= 2 * STEADY


def fastest(runs: Sequence[Run]) -> float:
    """Of all samples, t/s."""
    return max(map(max, runs))


def noise(runs: Sequence[Run]) -> float:
    """How far the fastest of every other run is from that of the rest: |log(ratio)|."""
    if len(runs) < 2:
        return math.inf
    return abs(math.log(fastest(runs[::2]) / fastest(runs[1::2])))


def in_turns(
    model: Path,
    point: Point,
    threads: int,
    workload: Workload,
    at_least: int,
    at_most: int,
) -> Turns:
    """Run both in turns (A B, B A, …) until they are steady, or so many times.

    Args:
        workload: its max_repeats is how many samples a run takes.
    """
    turns = Turns()
    for turn in count():
        if turn >= at_most or (turn >= at_least and turns.steady):
            return turns
        if turn % 2:
            turns.theirs.append(theirs(model, point, threads, workload.max_repeats))
            turns.ours.append(here(model, point, threads, workload))
        else:
            turns.ours.append(here(model, point, threads, workload))
            turns.theirs.append(theirs(model, point, threads, workload.max_repeats))
    raise AssertionError


def theirs(model: Path, point: Point, threads: int, repeats: int) -> Run:
    """llama-bench's samples."""
    bin_ = ROOT / "build/engine/bin"
    prefill = point.kind == "prefill"
    command = [
        bin_ / "llama-bench", "-m", model, "-o", "jsonl", "-t", threads, "-r", repeats,
        "-p", point.n_tokens if prefill else 0, "-n", 0 if prefill else point.n_tokens,
    ]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"LD_LIBRARY_PATH": str(bin_)},
    )
    samples: Run = json.loads(done.stdout.splitlines()[-1])["samples_ts"]
    return samples


def here(model: Path, point: Point, threads: int, workload: Workload) -> Run:
    """Samples of `plm-edge bench` on this machine."""
    found = runner.measure(Setting(model, threads=threads), workload, point)
    return [sample.tokens / sample.seconds for sample in found.samples]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    beforehand.model(given.model)
    for point in (Point("prefill", 512), Point("decode", 128)):
        turns = in_turns(
            given.model, point, given.threads, WORKLOADS["llama-bench"], given.rounds, given.rounds
        )
        both = {"plm-edge": turns.ours, "llama-bench": turns.theirs}
        medians = {name: statistics.median(chain(*runs)) for name, runs in both.items()}
        said = {
            "point": point.name,
            "median_tps": medians,
            "noise": {name: noise(runs) for name, runs in both.items()},
            "ratio_of_medians": medians["plm-edge"] / medians["llama-bench"],
            "ratio_of_fastest": turns.ratio,
            "agree": turns.steady and turns.agree,
            "samples": both,
        }
        print(json.dumps(said))


if __name__ == "__main__":
    with three_lines():
        main()
