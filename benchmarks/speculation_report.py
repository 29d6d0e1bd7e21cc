"""The section of BENCHMARKS.md on guesses, from results/speculation.json."""

from __future__ import annotations

from typing import Any

from benchmarks import origin
from benchmarks.kernels_figures import Spread
from benchmarks.markdown import table_head, table_row


def section(data: dict[str, Any]) -> str:
    """Markdown. `data` is a result of benchmarks/speculation.py, schema
    …/benchmark-speculation/1."""
    where = data["machine"]
    weights = "**Synthetic weights** (" if data["synthetic"] else "("
    return (
        "## Several tokens at once\n\n"
        f"{weights}`{data['model']}`, {data['kv']} cache): what a step of n tokens takes, in steps "
        "of one in turns with it; medians and ranges. So many tokens may be checked at once when "
        "the next ones are guessed. A row that several of them need is read once.\n\n"
        f"{where['cpu']}, CPUs: {where['cpus']}, threads: {where['threads']}, {data['date'][:10]}. "
        f"{origin.said_again(data)}\n\n" + _steps(data) + _tasks(data)
    )


def _steps(data: dict[str, Any]) -> str:
    lengths = list(data["step"])
    counts = list(data["step"][lengths[0]]["ratios"])
    after = (f"after {length} tokens" for length in lengths)
    lines = table_head(
        "tokens at once", *after, "a token costs", "lower bits of W_up that are read"
    )
    for n in ["1", *counts]:
        cells = [n]
        for length in lengths:
            ratios = data["step"][length]["ratios"].get(n, [1.0])
            cells.append(Spread.of(ratios).show() if n != "1" else "1")
        first = Spread.of(data["step"][lengths[0]]["ratios"].get(n, [1.0])).middle
        cells.append(f"{first / int(n):.2f}")
        share = data["step"][lengths[0]]["low_read"][n]
        cells.append("-" if share is None else f"{100 * share:.0f} %")
        lines.append(table_row(cells))
    return "\n".join(lines) + "\n"


def _tasks(data: dict[str, Any]) -> str:
    if not data["tasks"]:
        return ""
    lines = ["", *table_head("with guesses", "times as fast", "guesses right", "tokens")]
    for name, task in data["tasks"].items():
        lines.append(
            f"| {name} | {Spread.of(task['ratios']).show()} | {task['accepted']} of "
            f"{task['drafted']} | {task['tokens']} |"
        )
    return "\n".join(lines) + "\n"
