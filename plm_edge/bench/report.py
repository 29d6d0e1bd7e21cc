"""A result as one HTML file that asks nothing of the network, and as CSV."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import jinja2

from plm_edge.base import console, files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import charts

Result = dict[str, Any]
_TEMPLATES = Path(__file__).parent
COLUMNS = (
    "engine", "device", "model", "quant", "synthetic", "name", "kind", "n_tokens", "depth",
    "n_seq", "unit", "median", "minimum", "maximum", "mean", "interval", "n", "ttft_s", "p50_s",
    "p95_s", "p99_s", "peak_rss_bytes", "kv_bytes", "bandwidth_share", "compute_share", "zeros",
    "joules_a_token", "watts", "throttled",
)  # fmt: skip


def html(results: list[Result]) -> str:
    """The whole page: one result, or those of several devices with pictures of them together.
    Needs matplotlib (extra `report`).

    Raises:
        PlmEdgeError: it is not installed.
    """
    from plm_edge.cli.bench.tables import NO_POWER, medians, remarks

    several = len(results) > 1
    names = ", ".join(str(one["machine"]["device"]) for one in results)
    first = results[0]
    place = names if several else first["machine"]["cpu"]
    series = [(str(one["machine"]["device"]), one) for one in results]
    together = [
        ("Decode", charts.rates(series, "decode"), "median; bars from minimum to maximum"),
        ("Prefill", charts.rates(series, "prefill"), "median; bars from minimum to maximum"),
    ]
    return page(
        "report.html.j2",
        title=f"{first['model']['name']} on {place}",
        several=several,
        no_power=NO_POWER,
        beside=medians(results) if several else [],
        together=[item for item in together if item[1]] if several else [],
        parts=[
            {
                "result": one,
                "remarks": remarks(one),
                "points": [point for point in one["points"] if "seconds" in point],
                "pictures": [item for item in _pictures(one) if item[1]],
            }
            for one in results
        ],
    )


def page(template: str, **values: Any) -> str:
    """A template of this folder, by name, filled in."""
    from plm_edge.cli.bench.tables import milliseconds

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(_TEMPLATES),
    )  # fmt: skip
    environment.filters |= {
        "size": console.size,
        "duration": console.duration,
        "ms": milliseconds,
        "percent": lambda share: f"{100 * share:.0f} %",
    }
    return environment.get_template(template).render(**values)


def _pictures(result: Result) -> list[tuple[str, str | None, str]]:
    """Name, SVG and a note of each."""
    series = [(_label(result), result)]
    if "comparison" in result:
        series.append((_label(result["comparison"]["with"]), result["comparison"]["with"]))
    return [
        ("Decode", charts.rates(series, "decode"), "median; bars from minimum to maximum"),
        ("Prefill", charts.rates(series, "prefill"), "median; bars from minimum to maximum"),
        ("Sustained", charts.sustained(result), ""),
        ("Between two tokens", charts.latencies(result), "all steps of all repeats"),
        ("Sequences together", charts.batches(result), "empty context"),
        ("Roofline", charts.roofline(result), "int8 products may pass the f32 roof"),
        ("Rows of W_down skipped", charts.zeros(result), "one row a neuron, empty context"),
    ]


def _label(result: Result) -> str:
    return str(result["engine"]["name"])


def to_csv(results: list[Result]) -> str:
    """One line a point, with a heading; empty where something was not measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in results:
        for point in result["points"]:
            if "seconds" in point:
                writer.writerow(_row(result, point))
    return text.getvalue()


def _row(result: Result, point: Result) -> dict[str, Any]:
    rate = point.get("tps") or point["seconds"]
    energy = (point.get("power") or {}).get("energy") or {}
    latencies = point.get("inter_token_s", {})
    return {
        "engine": result["engine"]["name"],
        "device": result["machine"]["device"],
        "model": result["model"]["name"],
        "quant": result["model"]["quant"],
        "synthetic": result["model"]["synthetic"],
        **{name: point[name] for name in ("name", "kind", "n_tokens", "depth", "n_seq")},
        "unit": "t/s" if "tps" in point else "s",
        **{name: rate[name] for name in ("median", "minimum", "maximum", "mean", "interval", "n")},
        "ttft_s": point.get("ttft_s", {}).get("median"),
        **{f"{name}_s": latencies.get(name) for name in ("p50", "p95", "p99")},
        **{name: point.get("memory", {}).get(name) for name in ("peak_rss_bytes", "kv_bytes")},
        **{
            name: point.get("bounds", {}).get(name) for name in ("bandwidth_share", "compute_share")
        },
        "zeros": point.get("zeros"),
        **{name: energy.get(name) for name in ("joules_a_token", "watts")},
        "throttled": (point.get("power") or {}).get("throttled"),
    }


def check_place(path: Path) -> None:
    """Before anything is measured: can a report be written there?

    Raises:
        PlmEdgeError: it cannot.
    """
    if path.is_dir():
        raise _unwritable(path, "it is a folder")
    if not path.parent.is_dir():
        raise _unwritable(path, f"there is no folder {path.parent}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, str(error.strerror)) from error


def write(path: Path, text: str) -> None:
    """Beside its place first, then renamed: whole or not at all.

    Raises:
        PlmEdgeError: it cannot be written.
    """
    try:
        files.write_text(path, text)
    except OSError as error:
        raise _unwritable(path, str(error.strerror)) from error


def _unwritable(path: Path, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"the report cannot be written to {path}",
        why,
        "give the name of a file in a folder that you can write, such as --html report.html",
        ExitCode.USAGE,
    )
