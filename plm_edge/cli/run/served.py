"""A server that runs already generates: nothing is loaded a second time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plm_edge import __version__
from plm_edge.base import console
from plm_edge.cli.run import output
from plm_edge.cli.run.place import Place, Setting
from plm_edge.engine import library
from plm_edge.engine.approximations import is_exact
from plm_edge.engine.interrupt import Interrupt
from plm_edge.engine.options import AUTO
from plm_edge.generate.remote.generation import RemoteGenerator
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.serve import client, running
from plm_edge.serve.running import RunningServer
from plm_edge.store import choice as model_choice


def find(setting: Setting) -> RunningServer | None:
    """The server here that has what a person wants; None if there is none.

    Without a model named, the one server that runs has it. A context, a type of the cache or a
    number of threads that the person asked for must be the server's.
    """
    if setting.gpu_layers or setting.rpc or setting.mlock or is_exact():
        return None  # what a server does was decided when it was started
    known = [
        one
        for one in running.servers()
        if not one.device
        and setting.ctx in (None, one.n_ctx)
        and setting.threads in (None, one.threads)
        and setting.kv in (AUTO, one.kv)
    ]
    if setting.model is None:
        return known[0] if len(known) == 1 else None
    wanted = str(model_choice.choose(setting.model).path.resolve())
    return next((one for one in known if one.model == wanted), None)


@contextmanager
def open_place(server: RunningServer) -> Iterator[Place]:
    """Generate with a running server; while entered, Ctrl-C stops what it generates.

    Raises:
        PlmEdgeError: it does not answer.
    """
    about = describe(gguf_file.read(Path(server.model)))
    console.note(f"model: {server.name}, of the server at {server.url}")
    with Interrupt() as interrupt:
        began = time.perf_counter()
        known = client.model(server)
        load_s = time.perf_counter() - began
        output.remarks(about.architecture, about.synthetic, server.n_ctx, about.context_length)
        with RemoteGenerator(client.Client(server), known, interrupt, load_s) as generator:
            model = {
                "path": server.model,
                "origin": "served",
                "architecture": about.architecture,
                "description": about.name,
                "synthetic": about.synthetic,
            }
            pin = library.read_pin()
            engine = {
                "version": __version__,
                "pin": f"{pin.package} {pin.version}",
                "tree": pin.tree,
            }
            yield Place(generator, server.n_ctx, interrupt, model, engine)
