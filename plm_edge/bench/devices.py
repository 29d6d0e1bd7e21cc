"""A model on devices, measured: reached by a transport or emulated, one or several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import emulation, remote, session
from plm_edge.bench.result.shape import Result
from plm_edge.bench.site import Site
from plm_edge.bench.worker.client import PROGRAM, Setting
from plm_edge.bench.workload import Workload
from plm_edge.deploy import install
from plm_edge.devices import connect
from plm_edge.devices.transports.qemu import QemuTransport

if TYPE_CHECKING:
    from plm_edge.building.cache import KeptBuild


class Display(session.Display, Protocol):
    """What else than `session.Display` is shown of devices."""

    def another(self) -> Display:
        """A display beside this one, for a device that runs at the same time."""

    def sending(self) -> AbstractContextManager[Callable[[str, int, int], None]]:
        """A function that shows what is on its way: a name, bytes or steps done, and in all."""


def measure(
    names: Sequence[str],
    setting: Setting,
    workload: Workload,
    display: Display,
    engine: Path | None = None,
    emulate: bool = False,
) -> list[Result]:
    """Measure a model on devices, all at the same time; the results in the order of `names`.

    Args:
        names: NAME or NAME@HOST; one that is named twice is measured once.
        engine: a folder with a build of the engine; None: each device's own, built if need be.
        emulate: run the device's build under qemu here, and time nothing.

    Raises:
        PlmEdgeError: a device is not known, has no address or no engine, or failed.
    """
    names = list(dict.fromkeys(names))
    opened = [open_device(name, emulate) for name in names]
    if emulate:
        workload = emulation.workload(workload)
    with ExitStack() as stack:
        sites = []
        for name, one in zip(names, opened, strict=True):
            stack.enter_context(one.transport)
            facts = one.transport.facts()
            built = _engine(one, engine, display)
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
    opened: connect.OpenDevice,
    built: KeptBuild,
    setting: Setting,
    facts: Any,
    display: Display,
) -> remote.Device:
    from plm_edge.deploy import device_engine

    device_engine.require_fits(built, name, facts)
    emulated = isinstance(opened.transport, QemuTransport)
    kind = emulation.Emulated if emulated else remote.Device
    site = kind(opened, built, setting, facts)
    with display.sending() as show:
        sent = site.send(lambda what, done, size: show(f"{name}: {what}", done, size))
    if sent:
        console.note(f"sent {console.size(sent)} to {name}")
    return site


@contextmanager
def one(
    name: str, engine: Path | None, display: Display
) -> Iterator[tuple[int, Callable[[Setting], AbstractContextManager[Site]]]]:
    """Open a device for several models: threads that suit it, and a function that sends a model.

    A model that was not on the device before is removed again after it was measured, since several
    types need not fit beside one another.

    Args:
        name: NAME or NAME@HOST.
        engine: as in `measure`.

    Raises:
        PlmEdgeError: as `measure`.
    """
    opened = open_device(name)
    with opened.transport:
        facts = opened.transport.facts()
        built = _engine(opened, engine, display)

        @contextmanager
        def at(setting: Setting) -> Iterator[Site]:
            site = _site(name, opened, built, setting, facts, display)
            try:
                yield site
            finally:
                site.take_back()

        yield install.threads_for(opened, facts), at


def _engine(opened: connect.OpenDevice, folder: Path | None, display: Display) -> KeptBuild:
    """The engine for a device, with the worker in it."""
    from plm_edge.deploy import device_engine

    with display.sending() as show:
        return device_engine.find_or_build(
            opened.profile.name, folder,
            lambda done, steps, what: show(f"engine for {opened.name}: {what}", done, steps),
            program=f"bin/{PROGRAM}",
        )  # fmt: skip


def open_device(name: str, emulate: bool = False) -> connect.OpenDevice:
    """A device that can be reached.

    Raises:
        PlmEdgeError: none of that name, or no address for it: names the ways out.
    """
    try:
        return connect.open_device(name, emulate=emulate)
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
