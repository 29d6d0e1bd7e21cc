"""The table, plots and page of remembered runs: `bench history`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from plm_edge.base import console
from plm_edge.bench.history import Run
from plm_edge.bench.render import charts, report
from plm_edge.bench.render.summary import spark


def table(runs: Sequence[Run], shown: int) -> Any:
    """The newest runs, a line each, with a bar for each earlier decode of the same setting.

    Args:
        runs: the newest first.
        shown: lines at most.
    """
    made = console.table(
        "", "when", "model", "device", "engine", "prefill", "decode", "so far", "", right=(0, 5, 6)
    )
    for run in runs[:shown]:
        alike = [other for other in reversed(runs) if other.setting == run.setting]
        so_far = [other.rate("tg") for other in alike if other.id <= run.id]
        made.add_row(
            str(run.id),
            run.created[:16].replace("T", " "),
            console.cell(f"{run.model} {run.quant}"),
            console.cell(run.device),
            f"{run.engine} {run.tree[:8]}",
            _rate(run.rate("pp512") or run.rate("pp")),
            _rate(run.rate("tg")),
            spark([rate for rate in so_far if rate]),
            Text(shortened(run.slower), "yellow"),
        )
    return made


def write(path: Path, runs: Sequence[Run]) -> None:
    """Write a page: decode and prefill from run to run, a line for each setting."""
    pictures = []
    for name, start in (("Decode", "tg"), ("Prefill", "pp")):
        series: dict[str, list[tuple[str, float]]] = {}
        for run in reversed(runs):
            rate = run.rate(start)
            if rate:
                label = f"{run.model} {run.quant}, {run.device}, {run.engine}"
                series.setdefault(f"{label} #{_number(run, runs)}", []).append((run.created, rate))
        if series:
            pictures.append((name, charts.runs(series, f"{name.lower()}, t/s"), "oldest first"))
    page = report.page("history.html.j2", runs=runs, pictures=pictures, shortened=shortened)
    report.write(path, page)


def shortened(lines: Sequence[str]) -> str:
    """The first of some lines, and how many more there are."""
    if not lines:
        return ""
    return lines[0] + (f" (and {len(lines) - 1} more points)" if len(lines) > 1 else "")


def _number(run: Run, runs: Sequence[Run]) -> int:
    """Which of the settings it is, the oldest is 1: settings differ in more than a label holds."""
    settings = list(dict.fromkeys(other.setting for other in reversed(runs)))
    return settings.index(run.setting) + 1


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f} t/s"
