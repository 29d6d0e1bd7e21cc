"""Decode and prefill beside busy programs of another login session, ours and stock, in turns.

    python -m benchmarks.busy MODEL [--stock-model GGUF] [--rounds 5] [--tokens 32] [--threads N]
                              [--also NAME=FOLDER] [--out FILE]

A busy program is a loop in a session of its own, as a browser or a backup is: Linux gives each
session a fair share of every core (`sched_autogroup_enabled`), so one such program takes a whole
core from a process of several threads. In each round every engine is timed quiet, beside one and
beside two; a ratio is of one round and one engine, busy to quiet. So are as many threads that only
compute and never wait for one another: what the scheduler leaves them is what it leaves an engine
that is bound by computing. MODEL is what ours loads, and stock too unless --stock-model names the
file in the stock layout. --also adds another build of ours, from the folder with its libraries.

Then, on the quiet machine, ours with 1, 2, 4 and 8 threads in turns: more threads than cores are
what a container's limit gives (`taskset` does the same). Writes benchmarks/results/busy.json, from
which BENCHMARKS.md is made again, unless --out says where.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import beforehand, busy_report, machine, origin, report
from benchmarks.refusal import three_lines
from plm_edge.bench.stock import build_stock
from plm_edge.bench.worker.process import environment
from plm_edge.bench.worker.turns import Config, Engine
from plm_edge.engine import library
from plm_edge.machine.threads import default_threads

SCHEMA = "plm-edge/benchmark-busy/2"
BESIDE = (0, 1, 2)  # busy programs
THREADS = (1, 2, 4, 8)
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
LOOP = "while True: pass"
MOST_S = 8.0  # seconds of a turn: an engine that stands still must end, too
STEP, PIECE = 4, 32  # tokens between looks at the clock
SETTLE = 0.5  # seconds until the scheduler has spread the new programs
COMPUTE_S = 2.0  # seconds of a turn of threads that only compute
PASSES = 4000  # of SHA-256 between looks at the clock: a millisecond


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many programs, each in a session of its own, that compute without end."""
    running = [
        subprocess.Popen([sys.executable, "-c", LOOP], start_new_session=True) for _ in range(count)
    ]
    try:
        time.sleep(SETTLE if count else 0)
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def decode_rate(engine: Engine, tokens: int) -> float:
    """Tokens a second, of so many tokens or of as many as MOST_S seconds allow."""
    engine.at(0)
    made, seconds = 0, 0.0
    while made < tokens and seconds < MOST_S:
        seconds += engine.generate(0, STEP)
        made += STEP
    return made / seconds


def prefill_rate(engine: Engine, tokens: int) -> float:
    """As `decode_rate`, for a prompt in pieces of PIECE tokens."""
    engine.at(0)
    made, seconds = 0, 0.0
    while made < tokens and seconds < MOST_S:
        seconds += engine.fill(PIECE)
        made += PIECE
    return made / seconds


def computing_rate(threads: int) -> float:
    """Pieces a second of all threads, which share nothing, read no memory and never wait: one is
    so many passes of SHA-256, for which Python gives up its lock."""
    begin = time.monotonic()

    def pieces() -> int:
        done = 0
        while time.monotonic() - begin < COMPUTE_S:
            hashlib.pbkdf2_hmac("sha256", b"", b"", PASSES)
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(lambda _: pieces(), range(threads)))
    return done / (time.monotonic() - begin)


def measure(
    engines: dict[str, Engine], threads: int, rounds: int, tokens: int, prompt: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Samples of each round and number of busy programs: of each engine, tokens a second; of
    threads that only compute, pieces a second."""
    samples: list[dict[str, Any]] = []
    computing: list[dict[str, Any]] = []
    for round_ in range(rounds):
        for beside in BESIDE:
            with busy(beside):
                # who is first changes, for the first turn finds the programs just started
                for name, engine in list(engines.items())[:: 1 if round_ % 2 else -1]:
                    decode = decode_rate(engine, tokens)
                    prefill = prefill_rate(engine, prompt)
                    samples.append(
                        {"round": round_, "engine": name, "beside": beside,
                         "decode_tps": decode, "prefill_tps": prefill}
                    )  # fmt: skip
                    print(
                        f"round {round_} {name:10} beside {beside}: decode {decode:8.2f} t/s, "
                        f"prefill {prefill:8.2f} t/s",
                        file=sys.stderr,
                    )
                rate = computing_rate(threads)
                computing.append({"round": round_, "beside": beside, "pieces_per_s": rate})
                print(f"round {round_} computing beside {beside}: {rate:8.1f}/s", file=sys.stderr)
    return samples, computing


def measure_threads(
    folder: Path, model: Path, config: Config, rounds: int, tokens: int
) -> list[dict[str, Any]]:
    """Samples: of each round and number of threads, tokens a second."""
    samples: list[dict[str, Any]] = []
    with ExitStack() as stack:
        engines = {
            threads: stack.enter_context(Engine(folder, model, config, threads, 512))
            for threads in THREADS
        }
        for round_ in range(rounds):
            for threads, engine in list(engines.items())[:: 1 if round_ % 2 else -1]:
                rate = decode_rate(engine, tokens)
                samples.append({"round": round_, "threads": threads, "decode_tps": rate})
                print(f"round {round_} threads {threads}: decode {rate:8.2f} t/s", file=sys.stderr)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--stock-model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32, help="decoded in a turn")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prefill")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--no-stock", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    out = args.out or report.RESULTS / "busy.json"
    beforehand.out(out)
    for path in filter(None, (args.model, args.stock_model)):
        beforehand.model(path)
    ours = Config("ours", "edge", flash=True)
    sides = {"ours": (library.load().folder, args.model, ours)}
    for one in args.also:
        name, _, folder = one.partition("=")
        environment(Path(folder))
        sides[name] = (Path(folder), args.model, ours)
    if not args.no_stock:
        stock = Config("stock", "stock", flash=False)
        sides["stock"] = (build_stock(), args.stock_model or args.model, stock)
    load = machine.load()
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(Engine(folder, model, config, args.threads, 2048))
            for name, (folder, model, config) in sides.items()
        }
        samples, computing = measure(engines, args.threads, args.rounds, args.tokens, args.prompt)
    by_threads = measure_threads(*sides["ours"], args.rounds, args.tokens)
    result = {
        "schema": SCHEMA,
        **origin.taken("busy"),
        "model": args.model.name,
        "machine": machine.facts(args.threads),
        "autogroup": AUTOGROUP.read_text().strip() if AUTOGROUP.exists() else None,
        "load_average": {"before": load, "after": machine.load()},
        "tokens": args.tokens,
        "prompt": args.prompt,
        "samples": samples,
        "computing": computing,
        "threads": by_threads,
    }
    report.keep(out, result)
    print(busy_report.section(result))


if __name__ == "__main__":
    with three_lines():
        main()
