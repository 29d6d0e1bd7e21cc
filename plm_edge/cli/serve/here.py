"""`plm-edge serve` on this machine: in the terminal until Ctrl-C, or in the background."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from plm_edge.base import console
from plm_edge.cli import options
from plm_edge.engine.interrupt import Interrupt
from plm_edge.serve import gpu, program
from plm_edge.serve.follow import Follower
from plm_edge.serve.server import LocalServer
from plm_edge.serve.start import Wish, settings

if TYPE_CHECKING:
    from plm_edge.serve.running import RunningServer

SCHEMA = "plm-edge/serve/1"
_LOOK = 0.5  # seconds between looks at the log
_SOON = 600  # seconds within which a second crash is the last


def serve(wish: Wish, *, detach: bool, json: bool) -> None:
    """Serve a model from this machine.

    Raises:
        PlmEdgeError: it cannot be served, or its server crashed twice within ten minutes.
    """
    gpus = gpu.Gpus() if wish.rpc else gpu.find(wish.gpu_layers)
    chosen = settings(wish, console.warn, gpus.found, console.note)
    found = gpus.server or find_program()
    with Interrupt() as pressed, ends_with_it(pressed):
        console.note(f"loading {chosen.name}")
        server = LocalServer.start(chosen, found, detached=detach, stop=pressed)
        if detach:
            _say(server.running, json=json)
            console.note(f"stop it: plm-edge stop {server.running.port}")
            return
        crashed = 0.0
        while True:
            with server:
                _say(server.running, json=json and not crashed)
                if not crashed:
                    console.note("Ctrl-C stops it")
                if _watch(server, pressed):
                    break
                error = server.failure()
            if crashed and time.monotonic() - crashed < _SOON:
                raise error
            crashed = time.monotonic()
            console.warn(f"{error.what}: {error.why}; it is started once more")
            time.sleep(1)
            server = LocalServer.start(server.settings, found, stop=pressed)
    console.note("stopped")


def find_program() -> Path:
    """llama-server for this machine; the first use builds it, with a progress bar.

    Raises:
        PlmEdgeError: there is none and it cannot be built.
    """
    with console.progress(in_bytes=False) as display:
        task = display.add_task("preparing", total=None, visible=False)

        def step(done: int, steps: int, what: str) -> None:
            said = f"server: {console.printable(what)}"
            display.update(task, completed=done, total=steps, description=said, visible=True)

        return program.find_or_build(step, console.note)


def _watch(server: LocalServer, pressed: Interrupt) -> bool:
    """Show what happens in short lines until the server is stopped (True) or fails (False)."""
    lines = Follower(Path(server.running.log_file), whole=options.debug_wanted)
    while not pressed():
        time.sleep(_LOOK)  # Popen.wait would look twenty times a second
        ended = server.ended()
        for line in lines.read():
            console.note(line)
        if ended:
            return pressed() or server.stopped()
    return True


def _say(server: RunningServer, *, json: bool) -> None:
    """Print where it answers; on a terminal, for other machines, with key and QR code."""
    if json:
        console.emit_json({"schema": SCHEMA, "state": "serving", **about(server)})
        return
    console.out.print(server.url, markup=False)
    if "," not in server.host and not server.key_file:
        return
    for address in server.host.split(",")[1:]:
        console.out.print(f"http://{address}:{server.port}", markup=False)
    if not sys.stderr.isatty():  # what a service prints goes to a log
        console.note(f"key: in {server.key_file}")
        return
    from plm_edge.cli.serve import qr

    console.note(f"key: {server.key} (kept in {server.key_file})")
    if "," in server.host:
        address = f"http://{server.host.split(',')[1]}:{server.port}"
        qr.show(f"{address}/#key={quote(server.key, safe='')}")  # the page takes it from there


def about(server: RunningServer) -> dict[str, Any]:
    """What --json says of a server; its key only by the file that holds it."""
    return {
        "name": server.name,
        "url": server.url,
        "host": server.host,
        "port": server.port,
        "pid": server.pid,
        "model": server.model,
        "n_ctx": server.n_ctx,
        "device": server.device or None,
        "detached": server.detached,
        "since": server.since,
        "key_file": server.key_file or None,
        "log_file": server.log_file,
    }


@contextmanager
def ends_with_it(pressed: Interrupt) -> Iterator[None]:
    """Let SIGTERM and a closed terminal stop the server as Ctrl-C does."""

    def end(_number: int, _frame: FrameType | None) -> None:
        pressed.pressed = True

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
