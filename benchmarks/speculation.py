"""What speculation gains, and what checking several tokens at once costs, in turns.

    python -m benchmarks.speculation MODEL [--rounds 5] [--tokens 96] [--steps] [--out FILE]

Three tasks: code to be edited, a text to be quoted from, and a story to be told. Each is generated
greedily with guesses and without, in turns; the gain is the median of the ratios of pairs. Then a
step of n tokens is timed against a step of one, in turns as well, and what it reads is counted: a
row that several tokens need is read once. The text must be the same: the program ends with an error
if it is not. --steps leaves the tasks out: what random weights say is no text.

Writes benchmarks/results/speculation.json, from which BENCHMARKS.md is made again, unless --out
says where.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import beforehand, machine, origin, report, speculation_report
from benchmarks.refusal import three_lines
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.engine.sparsity import low_share
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.generate.speculation import MOST
from plm_edge.model import gguf_file
from plm_edge.model.description import describe

SCHEMA = "plm-edge/benchmark-speculation/1"

_CODE = """class Account:
    def __init__(self, owner, balance):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        if amount <= 0:
            raise ValueError("amount must be positive")
        self.balance = self.balance + amount
        return self.balance

    def withdraw(self, amount):
        if amount <= 0:
            raise ValueError("amount must be positive")
        if amount > self.balance:
            raise ValueError("not enough money")
        self.balance = self.balance - amount
        return self.balance
"""
_TEXT = """The lighthouse at Cape Arden was built in 1871 of grey stone from its own quarry.
For ninety years its lamp was lit every evening by the keeper, who lived with his family in the
white house below. In 1961 the lamp was changed to an electric one, and the last keeper, Tom
Hallet, moved to the village. Today the house is a museum that opens from May to September, and
visitors may climb the 148 steps to the top, from where on clear days the mainland can be seen.
"""
TASKS = {
    "edit code": "Rewrite this class with the name BankAccount, and keep all else.\n\n" + _CODE,
    "quote": f"{_TEXT}\nList the facts of this text, and quote the whole sentence for each.",
    "tell": "Tell a short story about a fisherman who finds a bottle.",
}


def gains(session: Session, rounds: int, n_predict: int) -> dict[str, Any]:
    """Times each task with guesses and without, in turns."""
    generator = LocalGenerator(session)
    found = {}
    for name, prompt in TASKS.items():
        tokens = generator.encode(prompt).tokens
        ratios, said, last = [], set(), None
        for i in range(rounds):
            seconds = {}
            for speculate in (i % 2 == 0, i % 2 == 1):  # who is first in a pair changes
                request = Request(tokens, n_predict, Sampling(temp=0), speculate=speculate)
                generation = generator.generate(request)
                generation.whole()
                said.add(tuple(generation.tokens))
                seconds[speculate] = generation.stats.decode_s
                last = generation.stats if speculate else last
            ratios.append(seconds[False] / seconds[True])
        if len(said) != 1:
            sys.exit(f"{name}: the text with guesses is another one")
        assert last is not None
        found[name] = {
            "gain": statistics.median(ratios),
            "ratios": ratios,
            "tokens": last.n_generated,
            "drafted": last.n_drafted,
            "accepted": last.n_accepted,
            "estimated_gain": last.speculation_gain,
        }
    return found


def costs(session: Session, rounds: int, length: int) -> dict[str, Any]:
    """Times steps of n tokens against those of one, after `length` tokens.

    Returns:
        `ratios`, all of them by n, and `low_read`: by n, the share of W_up's rows whose lower bits
        are read for any of the tokens (None: not in planes).
    """
    context = session.context
    context.clear()
    token = session.tokenize("a", add_special=False)[0]
    for start in range(0, length, context.n_batch):
        context.append([token] * min(context.n_batch, length - start))
    batch = context.batch(MOST)
    ratios: dict[int, list[float]] = {n: [] for n in range(2, MOST + 1)}
    low_read: dict[int, float | None] = {}

    def step(n: int) -> float:
        context.remove(0, length)
        batch.clear()
        batch.extend([token + i for i in range(n)], length, wanted="all")
        started = time.perf_counter()
        context.decode(batch)
        return time.perf_counter() - started

    step(1)
    for _ in range(rounds):
        for n, measured in ratios.items():
            single = step(1)
            measured.append(step(n) / single)
    for n in range(1, MOST + 1):
        session.rows.reset()
        step(n)
        low_read[n] = low_share(session.rows.read())
    return {"ratios": ratios, "low_read": low_read}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96, help="most new tokens of a task")
    parser.add_argument("--steps", action="store_true", help="only the cost of steps")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--kv", default="f16")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out or report.RESULTS / "speculation.json"
    beforehand.out(out)
    beforehand.model(arguments.model)
    # of logits that nobody looks at the likeliest alone are exact, as in a generation
    options = Options(n_ctx=2048, threads=arguments.threads, kv=arguments.kv, full_logits=False)
    load = machine.load()
    with Session.open(arguments.model, options) as session:
        tasks = {} if arguments.steps else gains(session, arguments.rounds, arguments.tokens)
        steps = {n: costs(session, 4 * arguments.rounds, n) for n in (64, 1024)}
        threads = session.threads
    result = {
        "schema": SCHEMA,
        **origin.taken("speculation"),
        "machine": machine.facts(threads),
        "load_average": {"before": load, "after": machine.load()},
        "model": arguments.model.name,
        "synthetic": describe(gguf_file.read(arguments.model)).synthetic,
        "kv": arguments.kv,
        "tasks": tasks,
        "step": steps,
    }
    result = json.loads(json.dumps(result))  # numbers as keys become text, as in the file
    report.keep(out, result)
    print(speculation_report.section(result))


if __name__ == "__main__":
    with three_lines():
        main()
