"""`plm-edge bench --device`: on machines that are elsewhere, emulated, or reckoned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import cost, emulation, estimate, kernels, matrix, remote, session
from plm_edge.bench.runner import Setting
from plm_edge.bench.site import Site
from plm_edge.bench.workload import Workload, find
from plm_edge.cli import bench_output
from plm_edge.converters.plan.layout import EDGE_VERSION_KEY
from plm_edge.deploy import install
from plm_edge.devices import connect
from plm_edge.devices.transports.qemu import QemuTransport
from plm_edge.machine.threads import default_threads
from plm_edge.model import gguf_file

if TYPE_CHECKING:
    from plm_edge.building.cache import Kept
    from plm_edge.cli.bench_run import Devices

ESTIMATED_DEPTHS = (0, 512, 2048, 4096)


def measure(devices: Devices, setting: Setting, workload: Workload) -> list[dict[str, Any]]:
    """The results of all devices of the call, measured side by side.

    Raises:
        PlmEdgeError: a device is not known, has no address or no engine, or failed.
    """
    names = list(dict.fromkeys(devices.names))
    opened = [open_device(name, devices.emulate) for name in names]
    if devices.emulate:
        workload = emulation.workload(workload)
    with ExitStack() as stack, bench_output.display() as display:
        sites = []
        for name, one in zip(names, opened, strict=True):
            stack.enter_context(one.transport)
            facts = one.transport.facts()
            built = _engine(one, devices.engine, display)
            sites.append(_site(name, one, built, setting, facts, display))
        several = len(sites) > 1
        benches = [
            session.Bench(
                site, workload, display.another() if several else display,
                label=f", {name}" if several else "",
            )
            for name, site in zip(names, sites, strict=True)
        ]  # fmt: skip
        return session.run_side_by_side(benches)


def _site(
    name: str,
    opened: connect.Opened,
    built: Kept,
    setting: Setting,
    facts: Any,
    display: bench_output.TerminalDisplay,
) -> remote.Device:
    from plm_edge.deploy import engine

    engine.require_fits(built, name, facts)
    emulated = isinstance(opened.transport, QemuTransport)
    kind = emulation.Emulated if emulated else remote.Device
    site = kind(opened, built, setting, facts)
    with display.sending() as progress:
        sent = site.send(lambda what, done, size: progress(f"{name}: {what}", done, size))
    if sent:
        console.note(f"sent {console.size(sent)} to {name}")
    return site


@contextmanager
def one(devices: Devices, display: bench_output.TerminalDisplay) -> Iterator[tuple[int, matrix.At]]:
    """The one device of the call: threads that suit it, and how a model gets there. What of a model
    was not there before is removed again: several types need not fit beside one another."""
    (name,) = devices.names
    opened = open_device(name)
    with opened.transport:
        facts = opened.transport.facts()
        built = _engine(opened, devices.engine, display)

        @contextmanager
        def at(setting: Setting) -> Iterator[Site]:
            site = _site(name, opened, built, setting, facts, display)
            try:
                yield site
            finally:
                site.take_back()

        yield install.threads_for(opened, facts), at


def _engine(
    opened: connect.Opened, folder: Path | None, display: bench_output.TerminalDisplay
) -> Kept:
    """The engine for a device, with the worker in it."""
    from plm_edge.deploy import engine

    with display.sending() as progress:
        return engine.of(
            opened.profile.name, folder,
            lambda done, steps, what: progress(f"engine for {opened.name}: {what}", done, steps),
            program=f"bin/{remote.PROGRAM}",
        )  # fmt: skip


def open_device(name: str, emulate: bool = False) -> connect.Opened:
    """A device that can be reached.

    Raises:
        PlmEdgeError: none of that name, or no address for it: names the ways out.
    """
    try:
        return connect.device(name, emulate=emulate)
    except PlmEdgeError as error:
        if "no address" not in error.what:
            raise
        raise PlmEdgeError(
            f"{name} is not here, so it cannot be measured",
            error.why,
            f"say where one is (--host USER@HOST), or run under qemu (--device {name} --emulate: "
            f"correctness, no speed), or reckon (--device {name} --estimate)",
            ExitCode.USAGE,
        ) from error


def estimates(names: tuple[str, ...], setting: Setting) -> list[dict[str, Any]]:
    """Estimates for the profiles; the model runs here for its zeros and for the check."""
    profiles = [connect.describe(name.partition("@")[0])[0] for name in names]
    run_here = replace(find("quick"), prefill=(512,), depths=(0, 512), loads=False)
    header = gguf_file.read(setting.model)
    edge = EDGE_VERSION_KEY in header.keys
    price = cost.of(header, setting.kv, sparse=edge)
    kinds = [kind for kind, _, _ in price.types]
    columns = header.arch_key("embedding_length")
    threads = setting.threads or default_threads()

    def kernels_here() -> dict[str, Any]:
        wide = columns if isinstance(columns, int) else 2048
        return kernels.measure(kinds, wide, threads, price.attention)

    # before the run and after it: other machines may take from the memory that this one shares
    console.note("measuring this machine's kernels, and the model here for the check")
    measured = [kernels_here()]
    with bench_output.display() as display:
        result = session.run(replace(setting, threads=threads), run_here, display)
    measured.append(kernels_here())
    shown = psutil.cpu_freq()
    clock = (shown.max or shown.current) / 1000 if shown else None
    features = connect.describe(estimate.HERE)[0].features
    here = estimate.of_here(measured, features, clock)
    return [estimate.of_device(one, price, result, here, ESTIMATED_DEPTHS) for one in profiles]
