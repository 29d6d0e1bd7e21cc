"""The section of BENCHMARKS.md on busy machines, from results/busy.json."""

from __future__ import annotations

from typing import Any

from benchmarks import origin
from benchmarks.kernels_figures import Spread
from benchmarks.markdown import table_head, table_row

# what was asked for: the share of the quiet rate, by the number of busy programs beside
ASKED = {1: 0.6, 2: 0.35}
ASKED_QUIET = 0.98  # of the build before
ASKED_THREADS = 0.5  # of the best number of threads
COMPUTING = (
    "The last row is what the scheduler leaves to threads that read no memory and never wait for "
    "one another."
)
FIGURES = {"decode_tps": "decode", "prefill_tps": "prefill"}


def section(data: dict[str, Any]) -> str:
    """Markdown. `data` is a result of benchmarks/busy.py, schema …/benchmark-busy/2."""
    where = data["machine"]
    groups = {"1": "on", "0": "off"}.get(data["autogroup"], "not there")
    return (
        "## Beside busy programs\n\n"
        f"**Synthetic weights** (`{data['model']}`): tokens a second of {data['tokens']} tokens "
        f"decoded, and of a prompt of {data['prompt']}, on a quiet machine and beside one and two "
        "programs that compute without end, each in a login session of its own. In turns; the "
        "median of the rounds and their range. A share is of the quiet rate of the same round.\n\n"
        f"{where['cpu']}, CPUs: {where['cpus']}, threads: {where['threads']}, kernel "
        f"{where['kernel']}, scheduling by sessions {groups}, {data['date'][:10]}. "
        f"{origin.said_again(data)}\n\n" + _beside(data) + _before(data) + _threads(data)
    )


def _beside(data: dict[str, Any]) -> str:
    asked = ", ".join(f"beside {n} {share}" for n, share in ASKED.items())
    rows = table_head("", "quiet, t/s", "beside one", "share", "beside two", "share")
    for figure, name in FIGURES.items():
        for engine in _engines(data):
            cells = [f"{name}, {engine}", Spread.of(_rates(data, engine, 0, figure)).show(1)]
            for beside in ASKED:
                cells.append(Spread.of(_rates(data, engine, beside, figure)).show(1))
                cells.append(shares(data, engine, beside, figure).show())
            rows.append(table_row(cells))
    rows.append(table_row(_computing(data)))
    return "\n".join(rows) + f"\n\nAsked for of ours: {asked}. {COMPUTING}\n"


def _computing(data: dict[str, Any]) -> list[str]:
    """The row of threads that only compute: shares alone, for its rate is of no tokens."""
    rates = {
        beside: [
            one["pieces_per_s"]
            for one in sorted(data["computing"], key=lambda one: one["round"])
            if one["beside"] == beside
        ]
        for beside in (0, *ASKED)
    }
    cells = [f"{data['machine']['threads']} threads that only compute", ""]
    for beside in ASKED:
        share = Spread.of([b / q for q, b in zip(rates[0], rates[beside], strict=True)])
        cells += ["", share.show()]
    return cells


def _before(data: dict[str, Any]) -> str:
    if "before" not in _engines(data):
        return ""
    found = Spread.of(
        [
            ours / before
            for ours, before in zip(
                _rates(data, "ours", 0, "decode_tps"),
                _rates(data, "before", 0, "decode_tps"),
                strict=True,
            )
        ]
    )
    return (
        f"\nQuiet, ours decodes {found.show()} times as fast as the build before its waits were "
        f"changed (asked for: {ASKED_QUIET}).\n"
    )


def _threads(data: dict[str, Any]) -> str:
    rates: dict[int, list[float]] = {}
    for one in data["threads"]:
        rates.setdefault(one["threads"], []).append(one["decode_tps"])
    spreads = {threads: Spread.of(found) for threads, found in rates.items()}
    best = max(spread.middle for spread in spreads.values())
    rows = ["", *table_head("threads", "decode, t/s", "of the best")]
    rows += [f"| {n} | {s.show(1)} | {s.middle / best:.2f} |" for n, s in spreads.items()]
    return "\n".join(rows) + f"\n\nAsked for: never below {ASKED_THREADS} of the best."


def _engines(data: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(one["engine"] for one in data["samples"]))


def _rates(data: dict[str, Any], engine: str, beside: int, figure: str) -> list[float]:
    """Of each round, in order."""
    return [
        one[figure]
        for one in sorted(data["samples"], key=lambda one: one["round"])
        if one["engine"] == engine and one["beside"] == beside
    ]


def shares(data: dict[str, Any], engine: str, beside: int, figure: str) -> Spread:
    """Of the quiet rate, round by round."""
    quiet, busy = (_rates(data, engine, n, figure) for n in (0, beside))
    return Spread.of([b / q for q, b in zip(quiet, busy, strict=True)])
