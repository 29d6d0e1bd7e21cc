"""What `plm-edge bench` and `bench compare` do: measure, compare, remember, show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from msgspec import structs

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import against_stock, devices, history, session, sustained
from plm_edge.bench.analyse import compare as comparing
from plm_edge.bench.analyse.estimate import DeviceEstimate
from plm_edge.bench.render import report, tables
from plm_edge.bench.result.shape import Comparison, Result, as_json
from plm_edge.bench.site import Here
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.workload import Workload, find
from plm_edge.building import gpu_engine
from plm_edge.cli.bench import progress
from plm_edge.cli.bench.request import Output, Places, Request, no_effect

DEVICES_SCHEMA = "plm-edge/bench-devices/1"


def run(request: Request, places: Places, output: Output, remember: bool) -> None:
    """Measure, reckon or emulate a model, and show the results.

    Raises:
        PlmEdgeError: the model, an option or a file is not usable; before anything is measured
            where that can be told.
    """
    output.check()
    places.check()
    _check_mode(request, places, output)
    workload = workload_of(request, places.emulate)
    setting = request.setting()
    if places.estimate:
        _show_estimates(estimate_of(places, setting), output)
        return
    if places.names:
        results = measure_there(places, setting, workload)
    else:
        results = measure_here(setting, workload)
    if remember and not places.emulate:  # an emulator times nothing: there is no rate to remember
        for result in results:
            _remember(result)
    show(results, output, several=bool(places.names))


def compare(other: str, request: Request, places: Places, output: Output, remember: bool) -> None:
    """Measure a model beside `other`: "stock", or the path of a result.

    Raises:
        PlmEdgeError: as `run`; or the other result cannot be read.
    """
    output.check()
    places.check()
    places.require_one("bench compare")
    if other == "stock" and places.names:
        raise PlmEdgeError(
            "bench compare stock is of this machine, not of a device",
            "stock llama.cpp is built where plm-edge runs, and for that machine only",
            "run plm-edge bench compare stock on the device, in a checkout there; or compare with "
            "a result that was measured there (--json)",
            ExitCode.USAGE,
        )
    before = None if other == "stock" else comparing.read(Path(other))
    if other == "stock" and request.gpu not in (None, "off", "0"):
        raise no_effect(
            "--gpu",
            "compare stock",
            "stock llama.cpp is built for the CPU here; make gpu-check compares the two on a GPU",
        )
    workload = workload_of(request)
    setting = request.setting()
    if other == "stock":
        setting = replace(setting, gpu_layers=0)
    if places.names:
        (result,) = measure_there(places, setting, workload)
    else:
        result, *stock = measure_here(setting, workload, beside_stock=before is None)
        before = before or stock[0]
    assert before is not None
    comparison = Comparison(
        other=before,
        differences=comparing.differences(result, before),
        points=comparing.compare(result, before),
    )
    result = structs.replace(result, comparison=comparison)
    if remember:
        _remember(result)
    show([result], output, several=bool(places.names))


def _check_mode(request: Request, places: Places, output: Output) -> None:
    """Refuse options that an estimate or an emulator would ignore.

    Raises:
        PlmEdgeError: one was given (code USAGE).
    """
    given: dict[str, object] = {
        "--sustained": request.sustained, "--html": output.html, "--csv": output.csv,
        "--budget": request.budget, "--gpu": request.gpu,
    }  # fmt: skip
    if places.estimate:
        mode, why = "--estimate", "it is reckoned, and checked by a short run here"
        given |= {
            "--workload": request.workload, "--engine": places.engine, "--emulate": places.emulate
        }  # fmt: skip
    elif places.emulate:
        mode, why = "--emulate", "it counts instructions of one thread, and no time"
        given |= {"--threads": request.threads}
    else:
        return
    for option, value in given.items():
        if value is not None and value is not False:
            raise no_effect(option, mode, why)


def measure_here(setting: Setting, workload: Workload, beside_stock: bool = False) -> list[Result]:
    """The result on this machine; then that of stock llama.cpp, measured in turns with it."""
    if setting.gpu_layers:
        gpu_engine.use()
    with progress.display() as display:
        benches = [session.Bench(Here(setting), workload, display)]
        if beside_stock:
            console.note("stock llama.cpp of the same pin: built once, minutes the first time")
            other = Here(against_stock.setting(setting))
            benches.append(session.Bench(other, workload, display, label=", stock"))
        return session.run_in_turns(benches)


def measure_there(places: Places, setting: Setting, workload: Workload) -> list[Result]:
    """The results of all devices of the call, measured side by side."""
    with progress.display() as display:
        return devices.measure(
            places.names, setting, workload, display, places.engine, places.emulate
        )


def estimate_of(places: Places, setting: Setting) -> list[DeviceEstimate]:
    """Estimates for all profiles of the call, with a short run here."""
    from plm_edge.bench import estimates

    console.note("measuring this machine's kernels, and the model here for the check")
    with progress.display() as display:
        return estimates.of(places.names, setting, display)


def workload_of(request: Request, emulated: bool = False) -> Workload:
    """The workload with what the options change in it."""
    default = "emulated" if emulated else "standard"
    chosen = find(request.workload or default, budget_s=request.budget)
    if request.sustained:
        chosen = sustained.workload(chosen, sustained.seconds(request.sustained))
    return chosen


def show(results: list[Result], output: Output, several: bool) -> None:
    """Print the results on stdout as it was asked for, and write the report."""
    if output.html is not None:
        report.write(output.html, report.html(results))
        console.note(f"report: {output.html}")
    if output.json:
        shown = [as_json(one) for one in results]
        console.emit_json({"schema": DEVICES_SCHEMA, "results": shown} if several else shown[0])
    elif output.csv:
        also = [one.comparison.other for one in results if one.comparison]
        console.out.print(report.to_csv([*results, *also]), end="", soft_wrap=True, markup=False)
    else:
        for index, one in enumerate(results):
            if index:
                console.out.print()
            tables.show(one)
        if len(results) > 1:
            console.out.print()
            console.out.print(tables.side_by_side(results))


def _show_estimates(found: list[DeviceEstimate], output: Output) -> None:
    if output.json:
        console.emit_json({"schema": DEVICES_SCHEMA, "results": [as_json(one) for one in found]})
        return
    for index, one in enumerate(found):
        if index:
            console.out.print()
        console.out.print(tables.estimate_table(one))


def _remember(result: Result) -> None:
    """Put it into the history, and say what became slower since the last run of this setting."""
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
            f"{point.name} is slower than on {before.created[:16].replace('T', ' ')}: "
            f"{point.ours:,.1f} t/s, then {point.other:,.1f} ({point.ratio:.2f}x)"
        )
