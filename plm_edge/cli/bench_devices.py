"""`plm-edge bench --device`: on machines that are elsewhere, or an estimate of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from plm_edge import console, model_choice
from plm_edge.bench import cost, estimate, remote, report, session
from plm_edge.bench.runner import Setting
from plm_edge.bench.workload import find
from plm_edge.cli import bench_output, run_output
from plm_edge.errors import ExitCode, PlmEdgeError
from plm_edge.fleet import connect

if TYPE_CHECKING:
    from plm_edge.cli.bench_run import Devices, Wanted

SCHEMA = "plm-edge/bench-devices/1"
ESTIMATED_DEPTHS = (0, 512, 2048, 4096)


def run(wanted: Wanted, devices: Devices, *, as_json: bool, as_csv: bool) -> None:
    """Measure on every device of the call, or estimate it.

    Raises:
        PlmEdgeError: a device is not known or has no address: names the ways out.
    """
    opened = [] if devices.estimate else [open_device(name) for name in devices.names]
    if not devices.estimate and devices.engine is None:
        raise PlmEdgeError(
            "there is no engine for the device",
            "plm-edge does not build for other machines by itself yet",
            "give a folder with a llama-bench for it (--engine FOLDER), or use --estimate",
            ExitCode.USAGE,
        )
    choice = model_choice.choose(wanted.model)
    run_output.say_which(choice)
    setting = Setting(choice.path, threads=wanted.threads, kv=wanted.kv)
    if devices.estimate:
        found = _estimates(devices.names, setting)
    else:
        assert devices.engine is not None
        chosen = find(wanted.workload, budget_s=wanted.budget)
        found = remote.run(opened, setting, chosen, devices.engine)
    if as_json:
        console.emit_json({"schema": SCHEMA, "results": found})
    elif as_csv and not devices.estimate:
        console.out.print(report.to_csv(found), end="", soft_wrap=True, markup=False)
    else:
        for one in found:
            if devices.estimate:
                console.out.print(bench_output.estimate_table(one))
            else:
                bench_output.show(one)
            console.out.print()


def open_device(name: str) -> connect.Opened:
    """A device that can be reached.

    Raises:
        PlmEdgeError: none of that name, or no address for it.
    """
    try:
        return connect.device(name)
    except PlmEdgeError as error:
        if "no address" not in error.what:
            raise
        raise PlmEdgeError(
            f"{name} is not here, so it cannot be measured",
            error.why,
            f"say where one is (--host USER@HOST), or reckon (--device {name} --estimate)",
            error.code,
        ) from error


def _estimates(names: tuple[str, ...], setting: Setting) -> list[dict[str, Any]]:
    """Estimates for the profiles; the model runs here for its zeros and for the check."""
    profiles = [connect.describe(name.partition("@")[0])[0] for name in names]
    here = replace(find("quick"), prefill=(), depths=(0, 512), loads=False)
    with bench_output.display() as display:
        result = session.run(setting, here, display)
    price = cost.of_file(setting.model, setting.kv, sparse=result["model"]["layout"] == "edge")
    return [estimate.of_device(one, price, result, ESTIMATED_DEPTHS) for one in profiles]
