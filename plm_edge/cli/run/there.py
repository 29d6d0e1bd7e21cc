"""`plm-edge run --device` starts a server on the device, where `deploy` put engine and model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plm_edge.base import console
from plm_edge.cli import options
from plm_edge.cli.run import output
from plm_edge.cli.run.place import Place, Setting
from plm_edge.deploy import running, trouble
from plm_edge.deploy.server import Server
from plm_edge.devices import connect
from plm_edge.engine.interrupt import Interrupt
from plm_edge.engine.options import AUTO
from plm_edge.generate.remote.generation import RemoteGenerator
from plm_edge.store import choice as model_choice


@contextmanager
def open_place(device: str, emulate: bool, setting: Setting) -> Iterator[Place]:
    """Serve the deployed model on its device; while entered, Ctrl-C stops what it generates.

    Args:
        device: as the person named it.
        emulate: run it under qemu here.
        setting: its model, if any, must have been deployed.

    Raises:
        PlmEdgeError: nothing is deployed there, or it cannot be run.
    """
    keeps = setting.prompts not in (None, "off")
    if setting.rpc or setting.mlock or keeps:
        raise options.not_on_device(device)
    wanted = None if setting.model is None else model_choice.choose(setting.model).path
    reached = connect.open_device(device, emulate=emulate)
    with reached.transport as transport:
        deployment = running.find(reached, wanted)
        model = deployment.model
        if wanted is None:
            console.note(f"model: {model.name} (deployed on {device} last)")
        settings, fit, placed = running.settings(
            deployment,
            n_ctx=setting.ctx,
            threads=setting.threads,
            kv=None if setting.kv == AUTO else setting.kv,
            force=setting.force,
            gpu_layers=setting.gpu_layers,
        )
        if placed:
            console.note(placed.note)
        if fit and fit.note:
            console.note(fit.note)
        began = time.perf_counter()
        output.remarks(model.architecture, model.synthetic, settings.n_ctx, model.n_ctx_train)
        server = Server(deployment.place, settings)
        server.echo = options.debug_wanted
        about: dict[str, Any] = {
            "name": device,
            "address": deployment.place.transport.name,
            "profile": deployment.record.profile,
        }
        engine = deployment.record.engine
        interrupt = Interrupt()
        with server, interrupt:
            load_s = time.perf_counter() - began
            with RemoteGenerator(server, model, interrupt, load_s) as generator:
                yield Place(
                    generator,
                    settings.n_ctx,
                    interrupt,
                    {
                        "path": deployment.place.path(model.file.path),
                        "origin": "deployed",
                        "architecture": model.architecture,
                        "description": model.description,
                        "synthetic": model.synthetic,
                    },
                    {"version": engine.version, "pin": engine.pin, "tree": engine.tree},
                    about,
                    fit,
                    placed,
                )
            about["throttled"] = trouble.throttling_reason(transport)
        if about["throttled"]:
            console.warn(f"{device} is slower than it could be: {about['throttled']}")
