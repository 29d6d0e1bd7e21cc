"""`plm-edge engine build` builds the engine for a device, from the patched source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge.base import console
from plm_edge.cli import options

if TYPE_CHECKING:
    from plm_edge.building.cache import KeptBuild


def build(
    device: options.BuiltFor = "host",
    compiler: Annotated[
        str | None,
        typer.Option(
            "--compiler",
            help="zig (from PyPI), or gcc: the system's.",
            show_default="zig for programs that carry all they need, else gcc",
        ),
    ] = None,
    gpu: Annotated[
        str,
        typer.Option(
            metavar="auto|off|cuda|vulkan|metal",
            help="The GPU's backend. auto: the one that the profile names, if any; Vulkan is for "
            "the GPUs of AMD, Intel and others, and is asked for by name.",
        ),
    ] = "auto",
    no_gpu: Annotated[bool, typer.Option("--no-gpu", help="The same as --gpu off.")] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Compilers at a time.", show_default="one a CPU"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Build it again even if a build is kept.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Build the engine for a device, and check which instructions it holds."""
    from plm_edge.building import cmake
    from plm_edge.building.build import build as build_engine
    from plm_edge.building.request import target_for

    named: bool | str = {"auto": True, "off": False}.get(gpu, gpu)
    target = target_for(device, compiler, gpu=False if no_gpu else named)
    try:
        with console.progress(in_bytes=False) as display:
            task = display.add_task(f"engine for {target.device}: preparing", total=None)

            def step(done: int, steps: int, what: str) -> None:
                display.update(
                    task,
                    completed=done,
                    total=steps,
                    description=f"engine for {target.device}: {console.printable(what)}",
                )

            built, cached = build_engine(target, jobs=jobs, force=force, progress=step)
    except cmake.BuildFailed as error:
        for line in error.lines:
            console.note(line)
        raise
    if json:
        console.emit_json(details(built, cached))
    else:
        _show(built, cached)


def details(built: KeptBuild, cached: bool | None = None) -> dict[str, Any]:
    """A build in JSON (plm-edge/engine-build/1): its manifest, and its folders.

    `cached` says whether it was kept before; None leaves that out.
    """
    found = {**built.manifest.as_json(), "schema": "plm-edge/engine-build/1"}
    found |= {"folder": str(built.folder), "programs": str(built.programs)}
    return found if cached is None else found | {"cached": cached}


def _show(built: KeptBuild, cached: bool) -> None:
    what = built.manifest
    spent = "was there already" if cached else f"built in {what.seconds:.0f} s"
    console.note(f"engine for {what.device}, {built.size / 2**20:.1f} MiB: {spent}")
    needs = ", ".join(what.requires) or f"nothing beyond plain {what.arch}"
    if what.checked != "read":
        needs = what.checked
    console.note(
        f"instructions: {needs}" + (f"; glibc {what.glibc} or newer" if what.glibc else "")
    )
    console.out.print(str(built.programs), markup=False, soft_wrap=True)
