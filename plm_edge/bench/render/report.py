"""A result as one HTML file that asks nothing of the network, and as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import jinja2

from plm_edge.base import console, files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.render import charts, summary
from plm_edge.bench.result.shape import Point, Result
from plm_edge.model import gguf_file

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
    several = len(results) > 1
    first = results[0]
    place = ", ".join(one.machine.device for one in results) if several else first.machine.cpu
    series = [(one.machine.device, one) for one in results]
    together = [
        ("Decode", charts.rates(series, "decode"), "median; bars from minimum to maximum"),
        ("Prefill", charts.rates(series, "prefill"), "median; bars from minimum to maximum"),
    ]
    return page(
        "report.html.j2",
        title=f"{first.model.name} on {place}",
        several=several,
        beside=summary.medians(results) if several else [],
        together=[item for item in together if item[1]] if several else [],
        parts=[
            {
                "result": one,
                "remarks": summary.remarks(one),
                "lacking": summary.lacking_energy(one),
                "on_gpu": summary.on_gpu(most) if (most := summary.most_on_gpu(one)) else [],
                "points": [point for point in one.points if point.seconds],
                "pictures": [item for item in _pictures(one) if item[1]],
            }
            for one in results
        ],
    )


def page(template: str, **values: Any) -> str:
    """A template of this folder, by name, filled in."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(_TEMPLATES),
    )  # fmt: skip
    environment.filters |= {
        "size": console.size,
        "duration": console.duration,
        "ms": summary.milliseconds,
        "percent": lambda share: f"{100 * share:.0f} %",
    }
    return environment.get_template(template).render(**values)


def _pictures(result: Result) -> list[tuple[str, str | None, str]]:
    """Name, SVG and a note of each."""
    series = [(result.engine.name, result)]
    if result.comparison:
        other = result.comparison.other
        series.append((other.engine.name, other))
    return [
        ("Decode", charts.rates(series, "decode"), "median; bars from minimum to maximum"),
        ("Prefill", charts.rates(series, "prefill"), "median; bars from minimum to maximum"),
        ("Sustained", charts.sustained(result), ""),
        ("Between two tokens", charts.latencies(result), "all steps of all repeats"),
        ("Sequences together", charts.batches(result), "empty context"),
        ("Roofline", charts.roofline(result), "int8 products may pass the f32 roof"),
        ("Rows of W_down skipped", charts.zeros(result), "one row a neuron, empty context"),
    ]


def to_csv(results: list[Result]) -> str:
    """One line a point, with a heading; empty where something was not measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in results:
        for point in result.points:
            if point.seconds:
                writer.writerow(_row(result, point))
    return text.getvalue()


def _row(result: Result, point: Point) -> dict[str, Any]:
    known = point.known
    assert known is not None
    energy = point.power.energy if point.power else None
    return {
        "engine": result.engine.name,
        "device": result.machine.device,
        "model": result.model.name,
        "quant": result.model.quant,
        "synthetic": result.model.synthetic,
        **_named(point, "name", "kind", "n_tokens", "depth", "n_seq"),
        "unit": "t/s" if point.tps else "s",
        **_named(known, "median", "minimum", "maximum", "mean", "interval", "n"),
        "ttft_s": point.ttft_s.median if point.ttft_s else None,
        **{f"{name}_s": getattr(point.inter_token_s, name, None) for name in ("p50", "p95", "p99")},
        **_named(point.memory, "peak_rss_bytes", "kv_bytes"),
        **_named(point.bounds, "bandwidth_share", "compute_share"),
        "zeros": point.skipped_rows,
        **_named(energy, "joules_a_token", "watts"),
        "throttled": point.power.throttled if point.power else None,
    }


def _named(part: object, *names: str) -> dict[str, Any]:
    """These fields of a part of a result; None for all of them where there is no such part."""
    return {name: getattr(part, name, None) for name in names}


def check_place(path: Path) -> None:
    """Before anything is measured: can a report be written there?

    Raises:
        PlmEdgeError: it cannot.
    """
    why = files.obstacle(path)
    if not why and gguf_file.is_gguf(path):
        why = "a model lies there, which a report does not replace"
    if why:
        raise _unwritable(path, why)


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
