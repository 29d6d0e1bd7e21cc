"""`plm-edge deploy` puts engine and model on a device, and proves them there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plm_edge.base import console
from plm_edge.cli import options, sending

if TYPE_CHECKING:
    from plm_edge.building.cache import KeptBuild
    from plm_edge.deploy.install import DeployResult
    from plm_edge.devices.connect import OpenDevice


def deploy(
    device: options.Device,
    model: options.Model = None,
    engine: Annotated[
        Path | None,
        typer.Option(
            "--engine",
            help="An engine built elsewhere, with its manifest.json.",
            show_default="the device's, built if there is none",
        ),
    ] = None,
    gpu: options.GpuThere = "auto",
    emulate: options.Emulate = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Put engine and model on a device, and prove that it computes there what it does here.

    Only what is not there yet is sent, and a broken transfer goes on where it was. The engine is
    built if there is none for this device. A plugin of `plm-edge spa train` is put there too, with
    a client in place of an engine: it needs Python and numpy on the device.
    """
    from plm_edge.cli.model import say_which
    from plm_edge.cli.spa import there
    from plm_edge.deploy import device_engine, install
    from plm_edge.devices import connect
    from plm_edge.engine import accelerators
    from plm_edge.engine.log import engine_log
    from plm_edge.model import gguf_file
    from plm_edge.store import choice as model_choice

    engine_log.echo = options.debug_wanted
    gpu_layers = accelerators.parse_layers(gpu)
    choice = model_choice.choose(model)
    if gguf_file.read(choice.path).keys.get("adapter.type") == "spa":
        other = emulate or engine is not None or gpu != "auto"
        there.deploy(device, choice.path, other=other, json=json)
        return
    say_which(choice)
    opened = connect.open_device(device, emulate=emulate)
    with opened.transport as transport:
        facts = transport.facts()
        if engine is None:  # checked before minutes of building
            connect.require_arch(opened.name, opened.profile, facts)
        built = engine_of(opened.profile.name, engine)
        device_engine.require_fits(built, opened.name, facts)
        with console.progress() as display:
            done = install.deploy(
                opened, built, choice.path, facts, progress=sending.bars(display),
                step=console.note, gpu_layers=gpu_layers,
            )  # fmt: skip
    if not emulate:
        sending.remember(device)
    if json:
        console.emit_json(_details(device, done))
    else:
        _show(opened, done)


def engine_of(profile: str, folder: Path | None) -> KeptBuild:
    """Find the engine for a profile, or build it and show how far the build is."""
    from plm_edge.building import cmake
    from plm_edge.deploy import device_engine

    with console.progress(in_bytes=False) as display:
        task = display.add_task(f"engine for {profile}", total=None)
        building: list[int] = []

        def step(done: int, steps: int, what: str) -> None:
            if not building:
                console.note(f"there is no engine for {profile} yet: building it, some minutes")
            building.append(done)
            shown = f"building the engine for {profile}: {console.printable(what)}"
            display.update(task, completed=done, total=steps, description=shown)

        try:
            return device_engine.find_or_build(profile, folder, step)
        except cmake.BuildFailed as error:
            for line in error.lines:
                console.note(line)
            raise


def _details(device: str, done: DeployResult) -> dict[str, object]:
    return {
        "schema": "plm-edge/deploy/1",
        "device": device,
        "sent": done.sent,
        "bytes_sent": done.bytes_sent,
        "throttled": done.throttled,
        "manifest": done.record.as_json(),
    }


def _show(opened: OpenDevice, done: DeployResult) -> None:
    model = done.record.current
    if done.sent:
        console.note(f"sent {len(done.sent)} files, {console.size(done.bytes_sent)}")
    else:
        console.note("nothing to send: all of it is there, by its SHA-256")
    shown = model.proof
    console.note(
        f"proven: {len(shown.tokens)} greedy tokens after {shown.prompt!r} are those that this "
        f"machine computes (each preferred by {shown.margin:.2g} nats or more)"
    )
    if done.throttled:
        console.warn(f"{opened.name} is slower than it could be: {done.throttled}")
    console.note(f'next: plm-edge run --device {opened.cli_name} --prompt "…"')
