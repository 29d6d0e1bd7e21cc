"""`plm-edge run --device`: the same as here, on a device."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode
from plm_edge.cli import options

if TYPE_CHECKING:
    from plm_edge.deploy.generation import RemoteGeneration
    from plm_edge.deploy.running import Found
    from plm_edge.engine.sampling import Sampling


@dataclass(frozen=True)
class Wanted:
    """What the command line asked for; None lets the device's record and the model choose."""

    text: str
    sampling: Sampling
    n_predict: int | None
    ctx: int | None
    threads: int | None
    kv: str
    raw: bool
    stats: bool
    json: bool
    force: bool


def run(device: str, emulate: bool, model: Path | None, wanted: Wanted) -> None:
    """Continue a prompt on a device; output as `plm-edge run` gives it."""
    from plm_edge.cli import run_output, run_result
    from plm_edge.deploy import running, trouble
    from plm_edge.deploy.generation import RemoteGeneration
    from plm_edge.deploy.server import Server
    from plm_edge.devices import connect
    from plm_edge.engine.interrupt import Interrupt
    from plm_edge.store import choice as model_choice

    if model is not None:
        model_choice.check_is_gguf(model)
    opened = connect.device(device, emulate=emulate)
    with opened.transport as transport:
        found = running.find(opened, model)
        if model is None:
            console.note(f"model: {found.model.name} (deployed on {device} last)")
        settings = running.settings(found, n_ctx=wanted.ctx, threads=wanted.threads, kv=wanted.kv)
        if not wanted.force:
            running.require_memory(found, settings)
        began = time.perf_counter()
        about = found.model
        run_output.remarks_on(
            about.architecture, about.synthetic, settings.n_ctx, about.n_ctx_train
        )
        server = Server(found.place, settings)
        server.echo = options.debug_wanted
        interrupt = Interrupt()
        with server, interrupt:
            load_s = time.perf_counter() - began
            encoded = running.encode(server, found.model, wanted.text, raw=wanted.raw)
            generation = RemoteGeneration(
                server, encoded.tokens, wanted.n_predict, wanted.sampling, interrupt, load_s
            )
            if wanted.json:
                text = generation.whole()
            else:
                text = run_output.stream(
                    generation, wanted.text, echo=not encoded.templated, silent=False
                )
            run_output.say_why_stopped(generation)
            generation.look()
            slow = trouble.throttled(transport)
        if slow:
            console.warn(f"{device} is slower than it could be: {slow}")
        if wanted.stats:
            run_result.show_stats(generation.stats)
        if wanted.json:
            _write_json(device, found, encoded, generation, text, slow)
    if generation.stop_reason == "interrupted":
        raise typer.Exit(ExitCode.INTERRUPTED)


def _write_json(
    device: str, found: Found, encoded: Any, generation: RemoteGeneration, text: str, slow: str
) -> None:
    from plm_edge.cli import run_result

    engine, model = found.record.engine, found.model
    run_result.write_json(
        {
            "path": found.place.path(model.file.path), "origin": "deployed",
            "architecture": model.architecture, "description": model.description,
            "synthetic": model.synthetic,
        },
        {"version": engine.version, "pin": engine.pin, "tree": engine.tree},
        encoded,
        generation,
        text,
        {"name": device, "address": found.place.device.device, "profile": found.record.profile,
         "throttled": slow},
    )  # fmt: skip
