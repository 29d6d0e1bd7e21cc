"""`plm-edge devices clean` removes everything of ours from a device."""

from __future__ import annotations

import contextlib

from plm_edge.base import console
from plm_edge.cli import options


def clean(
    name: options.AddedDevice,
    emulate: options.Emulate = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remove all that was put on a device, and nothing else. It stays in your list."""
    from plm_edge.deploy import carriers, server
    from plm_edge.deploy.place import Place
    from plm_edge.devices import connect

    opened = connect.open_device(name, emulate=emulate)
    with opened.transport as transport:
        place = Place(transport, opened.folder)
        server.stop_serving(place)
        lines = place.clean()
    if not emulate:
        with contextlib.suppress(OSError):  # it is named once too often then
            carriers.forget(name)
    kept = [line.removeprefix("kept ") for line in lines if line.startswith("kept ")]
    removed = [line for line in lines if not line.startswith("kept ")]
    if json:
        found = {"device": name, "folder": opened.folder, "removed": removed, "kept": kept}
        console.emit_json({"schema": "plm-edge/devices-clean/1", **found})
        return
    console.note(f"removed {len(removed)} files from {name}" if removed else f"nothing on {name}")
    for path in kept:
        console.warn(f"{path} is not ours, and stays")
