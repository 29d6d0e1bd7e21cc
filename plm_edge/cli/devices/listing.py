"""`plm-edge devices` lists the devices that were added, and every profile."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from plm_edge.base import console
from plm_edge.base.errors import PlmEdgeError


def listing(json: bool) -> None:
    """Print a table of added devices and one of profiles, or JSON (plm-edge/devices-list/1)."""
    from plm_edge.devices import detect
    from plm_edge.devices.profiles import known, presentation, profile

    broken: list[PlmEdgeError] = []
    profiles = [
        detect.profile_of_host() if found.detected else found
        for found in profile.all_profiles(broken.append)
    ]
    own = known.devices()
    if json:
        console.emit_json(presentation.listing(profiles, own))
    else:
        if own:
            _show_own([presentation.added_device(device) for device in own.values()])
        _show_profiles([presentation.summary(found) for found in profiles])
    for error in broken:
        console.warn(f"{error.what}: {error.why}")


def _show_own(devices: list[dict[str, Any]]) -> None:
    table = console.table("yours", "profile", "reached by", "address")
    for device in devices:
        table.add_row(
            console.cell(device["name"]),
            console.cell(device["profile"]),
            device["transport"],
            console.cell(device["host"] or "-"),
        )
    console.out.print(table)
    console.out.print()


def _show_profiles(profiles: list[dict[str, Any]]) -> None:
    table = console.table(
        "profile", "", "cores", "RAM", "bandwidth", "GPU", "reached by", right=(2, 3, 4)
    )
    for item in profiles:
        title = Text(console.printable(item["title"]))
        if item["origin"] == "user":
            title.append(" (yours)", style="dim")
        table.add_row(
            console.cell(item["name"]),
            title,
            str(item["cores"] or "-"),
            _figure(item["memory"] or item["ram"]),
            _figure(item["bandwidth"]),
            console.cell(item["backend"] or "-"),
            item["transport"],
        )
    console.out.print(table)
    console.note("GPUs: their own memory and bandwidth. Explain one: plm-edge devices show NAME")


def _figure(measure: dict[str, Any] | None) -> str:
    return f"{measure['value']:g} {measure['unit']}" if measure else "-"
