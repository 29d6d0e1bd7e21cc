"""`plm-edge serve --device` runs llama-server on a device, at a port of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from plm_edge.base import console, files, folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import options
from plm_edge.cli.serve.here import SCHEMA, about, ends_with_it
from plm_edge.deploy import running as deployed
from plm_edge.deploy import server as there
from plm_edge.deploy.place import Place
from plm_edge.devices import connect
from plm_edge.engine.interrupt import Interrupt
from plm_edge.serve import keys, network, running
from plm_edge.serve.running import RunningServer
from plm_edge.serve.settings import LOOPBACK
from plm_edge.store import choice as model_choice


def serve(
    name: str,
    model: str | None,
    *,
    port: int,
    ctx: int | None,
    threads: int | None,
    kv: str | None,
    gpu_layers: int | None,
    idle: int,
    emulate: bool,
    force: bool,
    detach: bool,
    json: bool,
) -> None:
    """Serve a deployed model from its device until Ctrl-C, or in the background.

    Args:
        name: the device, as the person named it.
        port: on this machine; 0 takes any that is free.
        gpu_layers: on the device's GPU; None: as it was deployed.
        idle: seconds without a request until the model leaves the memory there; 0: never.

    Raises:
        PlmEdgeError: the port is taken, nothing is deployed there, or it cannot be run.
    """
    network.require_free(LOOPBACK, port)
    if detach and not _is_detached():
        _detached(name, json=json)
        return
    opened = connect.open_device(name, emulate=emulate)
    with opened.transport as transport, ExitStack() as stack:
        path = None if model is None else model_choice.choose(model).path
        deployment = deployed.find(opened, path)
        deployed.require_no_server(deployment)
        key = os.environ.get(keys.VARIABLE, "").strip()
        settings, fit, placed = deployed.settings(
            deployment, n_ctx=ctx, threads=threads, kv=kv, force=force, gpu_layers=gpu_layers,
            key=key, port=port if transport.here else 0, serving=True, sleep_after=idle,
        )  # fmt: skip
        if placed:
            console.note(placed.note)
        if fit and fit.note:
            console.warn(fit.note)
        runs = there.Server(deployment.place, settings, local_port=port)
        runs.echo = options.debug_wanted
        made = folders.ensure(running.folder(), "PLM_EDGE_DATA_DIR")
        log = made / f"new-{os.getpid()}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        runs.log_file = stack.enter_context(os.fdopen(os.open(log, flags, files.PRIVATE), "wb"))
        pressed = stack.enter_context(Interrupt())
        stack.enter_context(ends_with_it(pressed))
        stack.enter_context(runs)
        log = log.replace(running.log_file(runs.port))
        key_file = ""
        if key:
            files.write_text(running.key_file(runs.port), key + "\n", files.PRIVATE)
            key_file = str(running.key_file(runs.port))
        known = RunningServer(
            pid=os.getpid(),
            born=running.birth(os.getpid()),
            port=runs.port,
            host=LOOPBACK,
            name=Path(deployment.model.name).stem,
            model=settings.model,
            n_ctx=settings.n_ctx,
            threads=settings.threads,
            kv=settings.kv,
            key_file=key_file,
            log_file=str(log),
            since=time.time(),
            device=name,
            detached=_is_detached(),
        )
        running.add(known)
        stack.callback(running.forget, known)
        if json:
            console.emit_json({"schema": SCHEMA, "state": "serving", **about(known)})
        else:
            console.out.print(known.url, markup=False)
        console.note(f"{deployment.model.name} on {name}; Ctrl-C stops it")
        while not pressed():
            if runs.wait(0.2):
                raise runs.failure()
    console.note("stopped")


def stop(name: str, *, emulate: bool, json: bool) -> None:
    """Stop the server that runs on a device, whoever started it.

    Raises:
        PlmEdgeError: the device cannot be reached.
    """
    from plm_edge.serve.server import stop as stop_server

    ours = [one for one in running.servers() if one.device == name]
    for one in ours:  # each stops its server; from behind, it would call that an error
        stop_server(one)
    opened = connect.open_device(name, emulate=emulate)
    with opened.transport as transport:
        found_one = there.stop_serving(Place(transport, opened.folder))
    if json:
        state = "stopped" if found_one or ours else "none"
        console.emit_json(
            {"schema": "plm-edge/stop/1", "stopped": [], "device": name, "state": state}
        )
    console.note(f"stopped on {name}" if found_one or ours else f"no server runs on {name}")


_DETACHED = "PLM_EDGE_DETACHED"


def _is_detached() -> bool:
    return bool(os.environ.get(_DETACHED))


def _detached(name: str, *, json: bool) -> None:
    """Run the same command again in the background, and wait until it serves."""
    arguments = [word for word in sys.argv[1:] if word not in ("-d", "--detach", "--json")]
    folder = folders.ensure(running.folder(), "PLM_EDGE_DATA_DIR")
    said = folder / "device.log"
    with os.fdopen(
        os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, files.PRIVATE), "wb"
    ) as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "plm_edge", *arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=os.environ | {_DETACHED: "1"}, start_new_session=True,
        )  # fmt: skip
    while child.poll() is None:
        mine = [one for one in running.servers() if one.pid == child.pid]
        if mine:
            if json:
                console.emit_json({"schema": SCHEMA, "state": "serving", **about(mine[0])})
            else:
                console.out.print(mine[0].url, markup=False)
            console.note(f"stop it: plm-edge stop {mine[0].port}")
            return
        time.sleep(0.1)
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    what, why, fix = [*lines, "", "", ""][:3]
    raise PlmEdgeError(
        what or f"the server on {name} did not start",
        why.removeprefix("  why  ") or "it left no word",
        fix.removeprefix("  fix  ") or "run it again without -d",
        ExitCode.DEVICE,
    )
