"""What `plm-edge bench` does with its options: measure, compare, remember, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import against_stock, history, report, session, sustained
from plm_edge.bench import compare as comparing
from plm_edge.bench.runner import Setting
from plm_edge.bench.site import Here
from plm_edge.bench.workload import Workload, find
from plm_edge.cli import bench_devices, bench_output, options
from plm_edge.cli.model import say_which
from plm_edge.store import choice as model_choice

DEVICES_SCHEMA = "plm-edge/bench-devices/1"


@dataclass(frozen=True)
class Wanted:
    """The options of one call that say what is measured."""

    model: Path | None
    workload: str | None
    threads: int | None
    kv: str
    gpu_layers: int | None
    budget: float | None
    text: Path | None
    sustained: str | None
    compare: str | None
    history: bool
    force: bool


@dataclass(frozen=True)
class Devices:
    """The options that say where. `engine`: a build of the engine for the devices."""

    names: tuple[str, ...] = ()
    engine: Path | None = None
    estimate: bool = False
    emulate: bool = False


@dataclass(frozen=True)
class Output:
    """How the result is shown. `html`: a report goes there as well."""

    json: bool
    csv: bool
    html: Path | None


@dataclass(frozen=True)
class Special:
    """The options that measure more than one model."""

    suite: str | None
    matrix: bool
    sweep: tuple[str, ...]


def run_special(special: Special, wanted: Wanted, devices: Devices, output: Output) -> None:
    """`--suite` or `--matrix`.

    Raises:
        PlmEdgeError: as `run`.
    """
    from plm_edge.cli import bench_tables

    if special.suite not in (None, "paper"):
        raise PlmEdgeError(
            f"there is no suite {special.suite!r}",
            "known is paper",
            "say --suite paper",
            ExitCode.USAGE,
        )
    if special.sweep and not special.matrix:
        raise _no_effect("--sweep", "--matrix", "it says what --matrix combines")
    mode = "--matrix" if special.matrix else "--suite"
    given: dict[str, object] = {
        "--suite": special.suite if special.matrix else None, "--compare": wanted.compare,
        "--sustained": wanted.sustained, "--workload": wanted.workload, "--csv": output.csv,
        "--estimate": devices.estimate, "--emulate": devices.emulate,
    }  # fmt: skip
    if special.matrix:
        given |= {"--threads": wanted.threads, "--kv": wanted.kv != "f16"}
        if len(devices.names) > 1:
            raise PlmEdgeError(
                "--matrix is of one device",
                f"there are {len(devices.names)}",
                "run it for each of them",
                ExitCode.USAGE,
            )
    if devices.engine and not devices.names:
        raise _no_effect("--engine", mode, "it is for --device: this machine uses its own")
    for name, value in given.items():
        if value:
            why = "say it with --sweep" if name in ("--threads", "--kv") else "it has its own"
            raise _no_effect(name, mode, why)
    if output.html is not None:
        check_html(output.html)
    bench_tables.refuse_model(wanted)
    text = _text(wanted.text)
    if special.matrix:
        bench_tables.run_matrix(wanted, devices, output, special.sweep, text)
    else:
        bench_tables.run_paper(wanted, devices, output, text)


def _no_effect(name: str, mode: str, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{name} has no effect with {mode}"
        if name != "--sweep"
        else "--sweep has no effect without --matrix",
        why,
        f"leave {name} out",
        ExitCode.USAGE,
    )


def run(wanted: Wanted, devices: Devices, output: Output) -> None:
    """Measure and report.

    Raises:
        PlmEdgeError: the model, an option or a file is not usable; before anything is measured
            where that can be told.
    """
    if output.html is not None:
        check_html(output.html)
    check(wanted, devices, output)
    before = _other(wanted.compare)
    workload = workload_of(wanted, devices.emulate)
    setting = setting_of(wanted)
    if devices.estimate:
        _show_estimates(bench_devices.estimates(devices.names, setting), output)
        return
    if devices.names:
        results = bench_devices.measure(devices, setting, workload)
        if devices.emulate:  # nothing was timed: there is no rate to remember
            wanted = replace(wanted, history=False)
    else:
        results = measure_here(setting, workload, wanted.compare == "stock")
        if wanted.compare == "stock":
            before = results.pop()
    if before is not None:
        results[0]["comparison"] = {
            "with": before,
            "differences": comparing.differences(results[0], before),
            "points": comparing.compare(results[0], before),
        }
    if wanted.history:
        for result in results:
            _remember(result)
    show(results, output, several=bool(devices.names))


def addressed(names: tuple[str, ...], host: str | None) -> tuple[str, ...]:
    """The devices' names, with the address where it was said apart.

    Raises:
        PlmEdgeError: an address for none, for several, or a second one.
    """
    if host is None:
        return names
    if len(names) != 1 or "@" in names[0]:
        raise PlmEdgeError(
            "--host is the address of one device",
            f"there are {len(names)}" if len(names) != 1 else f"{names[0]} names one already",
            "say --device NAME@HOST for each instead",
            ExitCode.USAGE,
        )
    return (f"{names[0]}@{host}",)


def check(wanted: Wanted, devices: Devices, output: Output) -> None:
    """Refuse options that would be without effect.

    Raises:
        PlmEdgeError: one was given.
    """
    given: dict[str, object] = {
        "--compare": wanted.compare, "--sustained": wanted.sustained, "--html": output.html,
        "--csv": output.csv, "--budget": wanted.budget, "--threads": wanted.threads,
        "--workload": wanted.workload, "--engine": devices.engine, "--emulate": devices.emulate,
        "--gpu-layers": wanted.gpu_layers,
    }  # fmt: skip

    def refuse(mode: str, why: str, *names: str) -> None:
        for name in names:
            if given[name]:
                raise PlmEdgeError(
                    f"{name} has no effect with {mode}", why, f"leave {name} out", ExitCode.USAGE
                )

    if (devices.estimate or devices.emulate) and not devices.names:
        mode = "--estimate" if devices.estimate else "--emulate"
        raise options.without_device(mode, "this machine is measured")
    if devices.estimate:
        refuse(
            "--estimate", "it is reckoned, and checked by a short run here",
            "--compare", "--sustained", "--html", "--csv", "--budget", "--workload", "--engine",
            "--emulate", "--gpu-layers",
        )  # fmt: skip
    elif devices.emulate:
        refuse(
            "--emulate", "it counts instructions of one thread, and no time",
            "--compare", "--sustained", "--html", "--csv", "--budget", "--threads", "--gpu-layers",
        )  # fmt: skip
    elif devices.names:
        if wanted.compare == "stock":
            raise PlmEdgeError(
                "--compare stock is of this machine, not of a device",
                "stock llama.cpp is built where plm-edge runs, and for that machine only",
                "run plm-edge bench --compare stock on the device, in a checkout there; or give "
                "--compare a result that was measured there (--json)",
                ExitCode.USAGE,
            )
        if len(devices.names) > 1:
            refuse("several devices", "one result is compared with one", "--compare")
    else:
        refuse("this machine", "it is for --device: this one uses its own", "--engine")


def setting_of(wanted: Wanted) -> Setting:
    """How the model that is meant is run."""
    choice = model_choice.choose(wanted.model)
    say_which(choice)
    return Setting(
        choice.path,
        threads=wanted.threads,
        kv=wanted.kv,
        gpu_layers=wanted.gpu_layers,
        check_memory=not wanted.force,
        text=_text(wanted.text),
    )


def _text(path: Path | None) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise PlmEdgeError(
            f"{path} cannot be read", str(error), "give a text in UTF-8 with --text"
        ) from error


def measure_here(setting: Setting, workload: Workload, stock: bool) -> list[dict[str, Any]]:
    """The result on this machine; then that of stock llama.cpp where it is wanted."""
    with bench_output.display() as display:
        benches = [session.Bench(Here(setting), workload, display)]
        if stock:
            console.note("stock llama.cpp of the same pin: built once, minutes the first time")
            other = Here(against_stock.setting(setting))
            benches.append(session.Bench(other, workload, display, label=", stock"))
        return session.run_in_turns(benches)


def workload_of(wanted: Wanted, emulated: bool = False) -> Workload:
    """The workload with what the options change in it."""
    default = "emulated" if emulated else "standard"
    chosen = find(wanted.workload or default, budget_s=wanted.budget)
    if wanted.sustained:
        chosen = sustained.workload(chosen, sustained.seconds(wanted.sustained))
    return chosen


def show(results: list[dict[str, Any]], output: Output, several: bool) -> None:
    """On stdout as it was asked for, and as a report."""
    if output.html is not None:
        report.write(output.html, report.html(results))
        console.note(f"report: {output.html}")
    if output.json:
        one = results[0]
        console.emit_json({"schema": DEVICES_SCHEMA, "results": results} if several else one)
    elif output.csv:
        also = [one["comparison"]["with"] for one in results if "comparison" in one]
        console.out.print(report.to_csv([*results, *also]), end="", soft_wrap=True, markup=False)
    else:
        for index, one in enumerate(results):
            if index:
                console.out.print()
            bench_output.show(one)
        if len(results) > 1:
            console.out.print()
            console.out.print(bench_output.side_by_side(results))


def _show_estimates(found: list[dict[str, Any]], output: Output) -> None:
    if output.json:
        console.emit_json({"schema": DEVICES_SCHEMA, "results": found})
        return
    for index, one in enumerate(found):
        if index:
            console.out.print()
        console.out.print(bench_output.estimate_table(one))


def _other(compare: str | None) -> dict[str, Any] | None:
    return comparing.read(Path(compare)) if compare not in (None, "stock") else None


def check_html(path: Path) -> None:
    """Before minutes of measuring: can the report be drawn and written?"""
    from plm_edge.bench import charts

    with charts.canvas():
        pass
    report.check_place(path)


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
