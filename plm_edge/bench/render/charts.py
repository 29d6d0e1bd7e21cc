"""The report's pictures, as SVG text. Drawn small, so that letters are large on a phone."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.result.shape import Point, Result
from plm_edge.bench.result.suites import Cell, PaperRow, Timed

WIDTH, HEIGHT = 4.7, 3.1  # inches; letters of 10 points are then 2 % of the width
OURS, OTHER, THIRD = "#1f6feb", "#9a6700", "#8250df"
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the reader's own font
    "svg.hashsalt": "plm-edge",
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d0d7de",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#57606a",
    "axes.labelcolor": "#24292f",
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.transparent": True,
}


@contextmanager
def canvas(height: float = HEIGHT, rows: int = 1) -> Iterator[tuple[Any, Any, list[str]]]:
    """A figure, its axes (one, or a list of rows) and a list that receives the SVG.

    Raises:
        PlmEdgeError: matplotlib is not installed (code ENVIRONMENT).
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlmEdgeError(
            "the report's plots cannot be drawn",
            "matplotlib is not installed: it is no part of a small installation",
            "pip install 'plm-edge[report]', or use --json or --csv",
            ExitCode.ENVIRONMENT,
        ) from error
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        made: list[str] = []
        yield figure, figure.subplots(rows, 1, sharex=rows > 1), made
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        svg = text.getvalue()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
        svg = svg.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")
        # Size comes from the page; the viewBox keeps the shape.
        made.append(re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2))


def _errors(points: list[Point]) -> list[list[float]]:
    """Distances from the median down to the minimum and up to the maximum."""
    rates = [point.tps for point in points if point.tps]
    return [
        [rate.median - rate.minimum for rate in rates],
        [rate.maximum - rate.median for rate in rates],
    ]


def _from_zero(axes: Any, rates: list[float]) -> None:
    """The y axis from zero to a little above the highest rate."""
    axes.set_ylim(0, 1.08 * max(rates, default=1) or 1)


def _single(result: Result, kind: str) -> list[Point]:
    points = [p for p in result.points if p.kind == kind and p.tps and p.n_seq == 1]
    return sorted(points, key=lambda p: (p.depth, p.n_tokens))


def rates(series: list[tuple[str, Result]], kind: str) -> str | None:
    """t/s of prefill by the prompt's length, or of decode by tokens in the cache.

    Args:
        series: labelled results, ours first.
    """
    if not _single(series[0][1], kind):
        return None
    with canvas() as (_, axes, made):
        for index, (label, result) in enumerate(series):
            points, colour = _single(result, kind), _shade(index)
            x = [p.n_tokens if kind == "prefill" else p.depth for p in points]
            y = [p.tps.median for p in points if p.tps]
            axes.errorbar(
                x, y, yerr=_errors(points), marker="o", color=colour, label=label, capsize=3, lw=1.8
            )
        tops = [p.tps.maximum for _, one in series for p in _single(one, kind) if p.tps]
        _from_zero(axes, tops)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("tokens in the prompt" if kind == "prefill" else "tokens in the cache")
        axes.set_ylabel(f"{kind}, t/s")
        if len(series) > 1:
            axes.legend()
    return made[0]


def batches(result: Result) -> str | None:
    """t/s of all sequences together, by their number."""
    points = [p for p in result.points if p.kind == "decode" and not p.depth and p.tps]
    if len(points) < 2:
        return None
    with canvas() as (_, axes, made):
        names = [str(point.n_seq) for point in points]
        axes.bar(
            names, [p.tps.median for p in points if p.tps], yerr=_errors(points), color=OURS,
            width=0.6, capsize=4,
        )  # fmt: skip
        axes.grid(axis="x", visible=False)
        axes.set_xlabel("sequences together")
        axes.set_ylabel("decode, t/s in all")
    return made[0]


def latencies(result: Result) -> str | None:
    """Share of steps that take at most so long, at each depth."""
    points = [p for p in _single(result, "decode") if p.step_samples_s]
    if not points:
        return None
    with canvas() as (_, axes, made):
        for index, point in enumerate(points):
            steps = sorted(1000 * s for sample in point.step_samples_s or () for s in sample)
            shades = index / max(1, len(points) - 1)
            axes.ecdf(steps, label=f"{point.depth} cached", color=(0.12, 0.3 + shades / 2, 0.9))
        axes.set_xlabel("between two tokens, ms")
        axes.set_ylabel("share of steps")
        axes.set_xlim(left=0, right=_calm([p.inter_token_s.p99 for p in points if p.inter_token_s]))
        axes.legend(loc="lower right")
    return made[0]


def _calm(p99: list[float]) -> float:
    """Right end of the latencies, in ms: a single outlier must not squeeze the rest."""
    return 1.3 * max(p99) * 1000


def roofline(result: Result) -> str | None:
    """Operations a second against operations a byte: under what the machine can do."""
    import numpy as np

    points = [(p.kind, p.bounds) for p in result.points if p.bounds]
    machine = result.capability
    if not points or machine is None:
        return None
    with canvas(3.5) as (_, axes, made):
        intensity = [bound.flops_a_step / bound.bytes_a_step for _, bound in points]
        low, high = min(*intensity, 1) / 3, max(*intensity, 100) * 3
        x = np.geomspace(low, high, 200)
        roof = np.minimum(x * machine.read_bytes_s, machine.flops) / 1e9
        axes.plot(x, roof, color="#57606a", lw=2)
        axes.text(
            0.03, 0.96, f"roofs: {machine.read_bytes_s / 1e9:.3g} GB/s read, "
            f"{machine.flops / 1e9:,.3g} GFLOP/s f32",
            color="#57606a", va="top", fontsize=9, transform=axes.transAxes,
        )  # fmt: skip
        for kind, colour, mark in (("prefill", THIRD, "s"), ("decode", OURS, "o")):
            chosen = [
                (at, bound.flops_s / 1e9)
                for at, (one, bound) in zip(intensity, points, strict=True)
                if one == kind
            ]
            axes.plot(
                [at for at, _ in chosen],
                [rate for _, rate in chosen],
                mark, color=colour, label=kind, ms=6, alpha=0.85,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(top=max(machine.flops, *(bound.flops_s for _, bound in points)) / 1e9 * 4)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: "")
        axes.set_xlabel("operations for each byte read")
        axes.set_ylabel("GFLOP/s")
        axes.legend(loc="lower right")
    return made[0]


def zeros(result: Result) -> str | None:
    """Share of W_down's rows that were skipped, by layer."""
    counted = (p.rows_by_layer for p in _single(result, "decode"))
    rows = next((rows for rows in counted if rows), None)
    if rows is None:
        return None
    with canvas(2.6) as (_, axes, made):
        share = [100 * (1 - row.read / row.rows) for row in rows]
        axes.bar([row.layer for row in rows], share, color=OURS)
        axes.grid(axis="x", visible=False)
        axes.set_ylim(0, 100)
        axes.set_xlabel("layer")
        axes.set_ylabel("rows skipped, %")
        axes.xaxis.get_major_locator().set_params(integer=True)
    return made[0]


def sustained(result: Result) -> str | None:
    """t/s over time, and below it the meters, each quantity in a row of its own."""
    run = result.sustained
    if run is None:
        return None
    kinds = {meter.name: meter for meter in result.power.meters}
    rows: dict[str, list[str]] = {}
    for quantity in ("temperature", "frequency", "power"):
        for name, series in run.series.items():
            if series and kinds[name].quantity == quantity:
                rows.setdefault(quantity, []).append(name)
    with canvas(2.6 + 1.1 * len(rows), 1 + len(rows)) as (figure, axes, made):
        top = axes[0] if rows else axes
        top.plot(*zip(*run.rates, strict=True), color=OURS, lw=1)
        top.set_ylim(bottom=0)
        top.set_ylabel("decode, t/s")
        for (quantity, names), row in zip(rows.items(), axes[1:] if rows else (), strict=True):
            for index, name in enumerate(names):
                row.plot(*zip(*run.series[name], strict=True), label=name, color=_shade(index))
            row.set_ylabel(
                f"{quantity if len(quantity) < 8 else quantity[:4]}, {kinds[names[0]].unit}"
            )
            row.legend(fontsize=8)
        (axes[-1] if rows else axes).set_xlabel("seconds")
        figure.align_ylabels()
    return made[0]


def front(cells: list[Cell], across: Literal["peak_rss_bytes", "kl_nats"]) -> str:
    """Decode against memory ("peak_rss_bytes") or divergence ("kl_nats"), a point a cell; those on
    the Pareto front are filled and named."""
    scale = 1 / (1 << 20) if across == "peak_rss_bytes" else 1.0
    colours = {quant: _shade(i) for i, quant in enumerate(dict.fromkeys(c.quant for c in cells))}
    with canvas(3.6) as (_, axes, made):
        for quant, colour in colours.items():
            those = [cell for cell in cells if cell.quant == quant]
            for best in (False, True):
                chosen = [cell for cell in those if cell.pareto == best]
                axes.plot(
                    [getattr(cell, across) * scale for cell in chosen],
                    [cell.decode_tps for cell in chosen],
                    "o", color=colour, ms=7 if best else 5, alpha=1 if best else 0.35,
                    mfc=colour if best else "none", label=quant if best == _any(those) else None,
                )  # fmt: skip
        _from_zero(axes, [cell.decode_tps for cell in cells])
        axes.set_ylabel("decode, t/s")
        if across == "kl_nats":
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_xlabel("KL divergence, nats a token")
        else:
            axes.set_xlabel("peak RSS, MiB")
        axes.legend(fontsize=8, loc="lower right")
    return made[0]


def _any(cells: list[Cell]) -> bool:
    return any(cell.pareto for cell in cells)


def _shade(index: int) -> str:
    palette = (OURS, OTHER, THIRD, "#1a7f37", "#cf222e", "#57606a", "#bf3989", "#0a7ea4")
    return palette[index % len(palette)]


def lines(rows: list[PaperRow], kind: Timed, across: str) -> str:
    """A line for each row of `paper.measure`: its rates by a number of tokens."""
    with canvas() as (_, axes, made):
        for index, row in enumerate(rows):
            rates = row.rates(kind)
            x = sorted(map(int, rates))
            y = [rates[str(at)] for at in x]
            label = f"{row.device} {row.type}"
            axes.plot(x, y, marker="o", color=_shade(index), label=label, lw=1.8)
        _from_zero(axes, [rate for row in rows for rate in row.rates(kind).values()])
        axes.set_xlabel(across)
        axes.set_ylabel("t/s")
        axes.legend(fontsize=9)
    return made[0]


def offload(rows: list[PaperRow], kind: Timed) -> str:
    """Rates by the number of layers on the GPU, a line for each device and type."""
    with canvas() as (_, axes, made):
        for index, key in enumerate(dict.fromkeys((r.device, r.type) for r in rows)):
            those = [row for row in rows if (row.device, row.type) == key]
            x = [row.gpu_layers for row in those]
            y = [next(iter(row.rates(kind).values()), 0.0) for row in those]
            axes.plot(x, y, marker="o", color=_shade(index), label=" ".join(key), lw=1.8)
        _from_zero(axes, [rate for row in rows for rate in row.rates(kind).values()])
        axes.set_xlabel("layers on the GPU")
        axes.set_ylabel("t/s")
        axes.legend(fontsize=9)
    return made[0]


def runs(series: dict[str, list[tuple[str, float]]], what: str) -> str:
    """Rates of the same setting from run to run.

    Args:
        series: by label, (when, t/s), the oldest first.
        what: the axis' name.
    """
    with canvas() as (_, axes, made):
        for index, (label, points) in enumerate(series.items()):
            at = range(1, len(points) + 1)
            axes.plot(
                at, [rate for _, rate in points], marker="o", color=_shade(index), label=label
            )
        _from_zero(axes, [rate for points in series.values() for _, rate in points])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("run")
        axes.set_ylabel(what)
        axes.legend(fontsize=8)
    return made[0]
