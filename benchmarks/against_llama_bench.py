"""Do `plm-edge bench` and llama-bench agree on the same model and engine? In turns, by the median.

    python benchmarks/against_llama_bench.py MODEL [--rounds N] [--threads N]

Runs both with llama-bench's settings (pp512, tg128) and prints the ratio of the medians beside the
spread of each. Needs build/engine/bin/llama-bench: `python bootstrap.py --tests` builds it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from plm_edge.bench import runner  # noqa: E402
from plm_edge.bench.workload import WORKLOADS, Point  # noqa: E402


def theirs(model: Path, point: Point, threads: int) -> list[float]:
    """llama-bench's samples, t/s."""
    bin_ = ROOT / "build/engine/bin"
    prefill = point.kind == "prefill"
    command = [
        bin_ / "llama-bench", "-m", model, "-o", "jsonl", "-t", threads,
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
    samples: list[float] = json.loads(done.stdout.splitlines()[-1])["samples_ts"]
    return samples


def ours(model: Path, point: Point, threads: int) -> list[float]:
    """Our samples, t/s."""
    setting = runner.Setting(model, threads=threads)
    found = runner.measure(setting, WORKLOADS["llama-bench"], point)
    return [sample["tokens"] / sample["seconds"] for sample in found.samples]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    for point in (Point("prefill", 512), Point("decode", 128)):
        samples: dict[str, list[float]] = {"plm-edge": [], "llama-bench": []}
        for _ in range(given.rounds):
            samples["plm-edge"] += ours(given.model, point, given.threads)
            samples["llama-bench"] += theirs(given.model, point, given.threads)
        medians = {name: statistics.median(rates) for name, rates in samples.items()}
        spread = {
            name: statistics.stdev(rates) / statistics.fmean(rates)
            for name, rates in samples.items()
        }
        said = {
            "point": point.name,
            "median_tps": medians,
            "stdev_share": spread,
            "ratio": medians["plm-edge"] / medians["llama-bench"],
            "samples": samples,
        }
        print(json.dumps(said))


if __name__ == "__main__":
    main()
