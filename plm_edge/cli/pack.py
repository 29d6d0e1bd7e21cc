"""`plm-edge pack` makes a folder that runs a model where there is no Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plm_edge.base import console
from plm_edge.cli import options

if TYPE_CHECKING:
    from plm_edge.deploy.pack.pack import Pack


def pack(
    device: options.BuiltFor,
    model: options.Model = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder, or FILE.tar.", show_default="./MODEL-DEVICE"),
    ] = None,
    engine: Annotated[
        Path | None,
        typer.Option(
            "--engine",
            help="An engine built elsewhere, with its manifest.json.",
            show_default="the device's, built if there is none",
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Make a folder that runs a model on a device without Python: copy it there, `sh start.sh`.

    It holds the server, the model, the page, licences and checksums.
    """
    from plm_edge.building import request
    from plm_edge.cli.deploy import engine_of
    from plm_edge.cli.model import say_which
    from plm_edge.deploy.pack import contents
    from plm_edge.deploy.pack.pack import check_place
    from plm_edge.deploy.pack.pack import pack as make
    from plm_edge.store import choice as model_choice

    choice = model_choice.choose(model)
    say_which(choice)
    profile = request.profile_for(device).name
    target = out or Path(contents.safe(f"{choice.path.stem}-{profile}"))
    check_place(target)
    built = engine_of(profile, engine)
    with console.progress() as display:
        task = display.add_task("packing", total=None)

        def progress(what: str, done: int, total: int) -> None:
            display.update(
                task, completed=done, total=total, description=console.printable(Path(what).name)
            )

        done = make(built, choice.path, target, progress)
    if json:
        console.emit_json(_details(done, profile))
    else:
        _show(done)


def _details(done: Pack, profile: str) -> dict[str, Any]:
    return {
        "schema": "plm-edge/pack/1",
        "path": str(done.path),
        "device": profile,
        "bytes": done.n_bytes,
        "page": done.page,
        "started": done.started,
        "files": done.checksums,
    }


def _show(done: Pack) -> None:
    if done.started is False:
        console.warn("its server does not start on this machine: it is for another CPU, or damaged")
    if not done.page:
        console.note("without the web page: this installation has none")
    files = f"{len(done.checksums)} files, {console.size(done.n_bytes)}"
    console.note(f"{files}; copy it there, then: sh start.sh")
    console.out.print(str(done.path), markup=False, soft_wrap=True)
