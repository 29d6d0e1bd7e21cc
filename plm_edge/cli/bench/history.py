"""`plm-edge bench history`: what was measured before, and how it went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text

from plm_edge.base import console
from plm_edge.cli import options
from plm_edge.cli.bench import options as ours

Run = dict[str, Any]

SHOWN, PLOTTED = 20, 500  # runs in the table, and on the page
_LEVELS = "▁▂▃▄▅▆▇█"


def history(
    html: ours.Html = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List the newest runs: how decode went from run to run of a setting, what became slower."""
    from plm_edge.bench import history as remembered

    runs = remembered.runs(SHOWN if html is None else PLOTTED)
    for run in runs:
        run["slower"] = slower(run, runs)
    if html is not None:
        _write(html, runs)
    if json:
        console.emit_json({"schema": "plm-edge/bench-history/1", "runs": runs})
        return
    if not runs:
        console.note(f"nothing was measured yet ({remembered.path()})")
        return
    table = console.table(
        "", "when", "model", "device", "engine", "prefill", "decode", "so far", "", right=(0, 5, 6)
    )
    for run in runs[:SHOWN]:
        alike = [other for other in reversed(runs) if other["setting"] == run["setting"]]
        upto = [_first(other, "tg") for other in alike if other["id"] <= run["id"]]
        table.add_row(
            str(run["id"]),
            run["created"][:16].replace("T", " "),
            console.cell(f"{run['model']} {run['quant']}"),
            console.cell(run["device"]),
            f"{run['engine']} {run['tree'][:8]}",
            _rate(_first(run, "pp512") or _first(run, "pp")),
            _rate(_first(run, "tg")),
            spark([rate for rate in upto if rate]),
            Text(shortened(run["slower"]), "yellow"),
        )
    console.out.print(table)


def shortened(lines: list[str]) -> str:
    """The first of some lines, and how many more there are."""
    if not lines:
        return ""
    return lines[0] + (f" (and {len(lines) - 1} more points)" if len(lines) > 1 else "")


def slower(run: Run, runs: list[Run]) -> list[str]:
    """Points that were slower than in the run of the same setting before it, in words."""
    from plm_edge.bench import history as remembered

    before = next((r for r in runs if r["setting"] == run["setting"] and r["id"] < run["id"]), None)
    return remembered.slower(run["id"], before["id"]) if before else []


def _write(path: Path, runs: list[Run]) -> None:
    """The plots: decode and prefill from run to run, a line for each setting."""
    from plm_edge.bench.render import charts, report
    from plm_edge.cli.bench.request import check_html

    check_html(path)
    pictures = []
    for name, start in (("Decode", "tg"), ("Prefill", "pp")):
        series: dict[str, list[tuple[str, float]]] = {}
        for run in reversed(runs):
            rate = _first(run, start)
            if rate:
                label = f"{run['model']} {run['quant']}, {run['device']}, {run['engine']}"
                series.setdefault(f"{label} #{_number(run, runs)}", []).append(
                    (run["created"], rate)
                )
        if series:
            pictures.append((name, charts.runs(series, f"{name.lower()}, t/s"), "oldest first"))
    page = report.page(
        "history.html.j2", runs=runs, pictures=pictures, first=_first, shortened=shortened
    )
    report.write(path, page)
    console.note(f"report: {path}")


def _number(run: Run, runs: list[Run]) -> int:
    """Which of the settings it is, the oldest is 1: settings differ in more than a label holds."""
    settings = list(dict.fromkeys(other["setting"] for other in reversed(runs)))
    return settings.index(run["setting"]) + 1


def spark(values: list[float]) -> str:
    """A line of bars, one a value, scaled from zero to the largest."""
    top = max(values, default=0) or 1
    return "".join(_LEVELS[min(7, int(8 * value / top))] for value in values)


def _first(run: Run, start: str) -> float | None:
    return next((rate for name, rate in run["points"].items() if name.startswith(start)), None)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f} t/s"
