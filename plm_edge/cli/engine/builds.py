"""`plm-edge engine list`, `path` and `clean` show, find and remove the builds that are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options


def listing(
    json: options.Json = False, quiet: options.Quiet = False, debug: options.Debug = False
) -> None:
    """List the builds that are kept."""
    from plm_edge.building import cache
    from plm_edge.cli.engine.build import details

    builds = cache.builds()
    if json:
        found = [{**details(build), "current": build.current} for build in builds]
        console.emit_json({"schema": "plm-edge/engine-list/1", "builds": found})
        return
    table = console.table("device", "key", "compiler", "kernels", "GPU", "MiB", "", right=(5,))
    for build in builds:
        what = build.manifest
        table.add_row(
            console.cell(what.device),
            what.key[:12],
            console.cell(what.compiler),
            what.kernels,
            what.backend or "-",
            f"{build.size / 2**20:.1f}",
            "" if build.current else "of an older version",
        )
    console.out.print(table)
    console.note(f"in {cache.folder()}")


def path(
    device: options.BuiltFor = "host",
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Print the folder with the programs for a device, of this version."""
    from plm_edge.building import cache, request
    from plm_edge.cli.engine.build import details

    build = cache.find(request.profile_for(device).name)
    if json:
        console.emit_json(details(build))
    else:
        console.out.print(str(build.programs), markup=False, soft_wrap=True)


def clean(
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="Remove all builds for this device.",
            autocompletion=options.known_devices,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove all builds, and the compilers' own files.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remove builds: those of older versions; with --device, a device's; with --all, everything."""
    from plm_edge.building import cache, request

    if device and everything:
        raise PlmEdgeError(
            "--device and --all exclude each other",
            f"--all would remove the builds for all devices, not for {device} alone",
            "leave one of the two out",
            ExitCode.USAGE,
        )
    name = request.profile_for(device).name if device else None
    count, freed = cache.clean(name, everything=everything)
    if json:
        console.emit_json({"schema": "plm-edge/engine-clean/1", "builds": count, "bytes": freed})
    else:
        console.note(
            f"removed: {count} {'build' if count == 1 else 'builds'}, {freed / 2**20:.0f} MiB"
        )
