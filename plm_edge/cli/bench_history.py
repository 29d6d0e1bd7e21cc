"""`plm-edge bench history`: what was measured before, and how it went."""

from __future__ import annotations

from typing import Any

from plm_edge import console

Result = dict[str, Any]

_LEVELS = "▁▂▃▄▅▆▇█"


def show_history(as_json: bool) -> None:
    """The newest runs, and how decode went from run to run of the same setting."""
    from plm_edge.bench import history

    runs = history.runs()
    if as_json:
        console.emit_json({"schema": "plm-edge/bench-history/1", "runs": runs})
        return
    if not runs:
        console.note(f"nothing was measured yet ({history.path()})")
        return
    table = console.table(
        "", "when", "model", "device", "engine", "prefill", "decode", "before", right=(0, 5, 6)
    )
    for run in runs:
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
        )
    console.out.print(table)


def spark(values: list[float]) -> str:
    """A line of bars, one a value, scaled from zero to the largest."""
    top = max(values, default=0) or 1
    return "".join(_LEVELS[min(7, int(8 * value / top))] for value in values)


def _first(run: Result, start: str) -> float | None:
    return next((rate for name, rate in run["points"].items() if name.startswith(start)), None)


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f} t/s"
