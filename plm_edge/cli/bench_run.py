"""What `plm-edge bench` does with its options: measure, compare, remember, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge import console, model_choice
from plm_edge.bench import against_stock, history, report, session, sustained
from plm_edge.bench import compare as comparing
from plm_edge.bench.runner import Setting
from plm_edge.bench.workload import Workload, find
from plm_edge.cli import bench_devices, bench_output, run_output
from plm_edge.errors import ExitCode, PlmEdgeError


@dataclass(frozen=True)
class Wanted:
    """The options of one call that say what is measured."""

    model: Path | None
    workload: str
    threads: int | None
    kv: str
    budget: float | None
    text: Path | None
    sustained: str | None
    compare: str | None
    history: bool
    force: bool


@dataclass(frozen=True)
class Devices:
    """The options that say where. `engine`: a folder with llama-bench for the devices."""

    names: tuple[str, ...] = ()
    engine: Path | None = None
    estimate: bool = False


def run(
    wanted: Wanted, devices: Devices, *, as_json: bool, as_csv: bool, html: Path | None
) -> None:
    """Measure and report.

    Raises:
        PlmEdgeError: the model, an option or a file is not usable; before anything is measured
            where that can be told.
    """
    if html is not None:
        _check_html(html)
    if devices.names:
        bench_devices.run(wanted, devices, as_json=as_json, as_csv=as_csv)
        return
    before = _other(wanted.compare)
    result = measure(wanted, before)
    if wanted.history:
        _remember(result)
    if html is not None:
        report.write(html, report.html(result))
        console.note(f"report: {html}")
    if as_json:
        console.emit_json(result)
    elif as_csv:
        also = [result["comparison"]["with"]] if "comparison" in result else []
        console.out.print(report.to_csv([result, *also]), end="", soft_wrap=True, markup=False)
    else:
        bench_output.show(result)


def measure(wanted: Wanted, before: dict[str, Any] | None) -> dict[str, Any]:
    """The result, with a comparison where one is wanted."""
    chosen = workload_of(wanted)
    choice = model_choice.choose(wanted.model)
    run_output.say_which(choice)
    setting = Setting(
        choice.path,
        threads=wanted.threads,
        kv=wanted.kv,
        check_memory=not wanted.force,
        text=wanted.text.read_text(encoding="utf-8") if wanted.text else None,
    )
    with bench_output.display() as display:
        benches = [session.Bench(setting, chosen, display)]
        if wanted.compare == "stock":
            console.note("stock llama.cpp of the same pin: built once, minutes the first time")
            stock = against_stock.setting(setting)
            benches.append(session.Bench(stock, chosen, display, label=", stock"))
        results = session.run_in_turns(benches)
    result, other = results[0], (results[1] if len(results) > 1 else before)
    if other is not None:
        result["comparison"] = {
            "with": other,
            "differences": comparing.differences(result, other),
            "points": comparing.compare(result, other),
        }
    return result


def workload_of(wanted: Wanted) -> Workload:
    """The workload with what the options change in it."""
    chosen = find(wanted.workload, budget_s=wanted.budget)
    if wanted.sustained:
        chosen = sustained.workload(chosen, sustained.seconds(wanted.sustained))
    return chosen


def _other(compare: str | None) -> dict[str, Any] | None:
    return comparing.read(Path(compare)) if compare not in (None, "stock") else None


def _check_html(path: Path) -> None:
    """Before minutes of measuring: can the report be drawn and written?"""
    from plm_edge.bench import charts

    with charts.canvas():
        pass
    if path.is_dir() or not path.parent.is_dir():
        raise PlmEdgeError(
            f"the report cannot be written to {path}",
            "it is a folder" if path.is_dir() else f"there is no folder {path.parent}",
            "give the name of a file, such as --html report.html",
            ExitCode.USAGE,
        )


def _remember(result: dict[str, Any]) -> None:
    """Into the history; and say what became slower since the last run of the same setting."""
    try:
        before = history.last(result)
        history.add(result)
    except PlmEdgeError as error:  # a result of minutes is not thrown away for that
        console.warn(f"{error.what}: {error.why}")
        return
    if before is None:
        return
    for point in history.regressions(result, before):
        console.warn(
            f"{point['name']} is slower than on {before['created'][:16].replace('T', ' ')}: "
            f"{point['ours']:,.1f} t/s, then {point['other']:,.1f} ({point['ratio']:.2f}x)"
        )
