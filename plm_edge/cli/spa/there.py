"""A plugin on a device: `plm-edge deploy PLUGIN --device` and `plm-edge spa run --device`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import sending
from plm_edge.cli.spa import showing

SCHEMA = "plm-edge/deploy-plugin/1"


def deploy(device: str, path: Path, *, other: bool, json: bool) -> None:
    """Put a plugin on a device.

    Args:
        other: options were given that are for a model.

    Raises:
        PlmEdgeError: see `spa.deploying.deploy`.
    """
    from plm_edge.devices import connect
    from plm_edge.spa import deploying

    if other:
        raise PlmEdgeError(
            f"{path.name} is a plugin",
            "it needs no engine and no GPU there, and Python does not run in qemu here",
            "leave --engine and --emulate out, and --gpu",
            ExitCode.USAGE,
        )
    opened = connect.open_device(device)
    with opened.transport, console.progress() as display:
        made, sent = deploying.deploy(opened, path, sending.bars(display), console.note)
    sending.remember(device)
    if json:
        found = {"device": device, "sent": sent, "plugin": asdict(made)}
        console.emit_json({"schema": SCHEMA, **found})
        return
    if not sent:
        console.note("nothing to send: all of it is there, by its SHA-256")
    console.note(
        f"proven: with numpy {made.numpy} there it chooses the {len(made.proof)} tokens that it "
        "chooses here"
    )
    console.note(f'next: plm-edge spa run --device {opened.cli_name} --server URL --prompt "…"')


def run(device: str, plugin: Path | None, asked: dict[str, Any], *, show: bool, json: bool) -> None:
    """Make a text on a device, which asks the server itself.

    Args:
        plugin: that was deployed; None: the last one.
        asked: as the client reads it, without the plugin.
        show: mark personal tokens.

    Raises:
        PlmEdgeError: it is not there, or the client's own.
    """
    from plm_edge.deploy.place import Place
    from plm_edge.devices import connect
    from plm_edge.spa import deploying
    from plm_edge.spa.device import shown

    opened = connect.open_device(device)
    said: dict[str, Any] = {}
    text: list[str] = []

    def hear(what: dict[str, Any]) -> None:
        said.update(what)
        if "text" in what:
            text.append(what["text"])
            if not json:
                showing.part(what["text"], personal=what["personal"] and show)

    refused: PlmEdgeError | None = None
    with opened.transport:
        found = deploying.find(opened, plugin)
        if plugin is None:
            console.note(f"plugin: {found.name} (deployed on {device} last)")
        place = Place(opened.transport, opened.folder)
        if not json:
            prompt = asked["prompt"]
            console.echo(shown(prompt) if asked["mode"] == "shadow" else prompt)
        asked |= {"do": "run", "plugin": place.path(found.path)}
        try:
            deploying.talk(place, found.client, asked, hear)
        except PlmEdgeError as error:
            refused = error
        if not json:
            showing.part("\n", personal=False)
    if done := said.get("done"):
        if json:
            known = {"schema": showing.SCHEMA, "text": "".join(text), "device": device, **done}
            console.emit_json(known)
        else:
            showing.report(done)
    if refused is not None:
        raise refused
