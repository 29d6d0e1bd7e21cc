"""`plm-edge run` on this machine opens a session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plm_edge.base import console
from plm_edge.building import gpu_engine
from plm_edge.cli.model import say_which
from plm_edge.cli.run import output
from plm_edge.cli.run.place import Place, Setting
from plm_edge.engine import prompt_cache
from plm_edge.engine.interrupt import Interrupt
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.machine import cores
from plm_edge.model.description import Description, describe
from plm_edge.store import choice as model_choice


@contextmanager
def open_place(setting: Setting) -> Iterator[Place]:
    """Load the model here; while entered, Ctrl-C stops what it generates.

    Raises:
        PlmEdgeError: there is no such model, or it cannot be loaded.
    """
    choice = model_choice.choose(setting.model)
    say_which(choice)
    if setting.gpu_layers:
        gpu_engine.use()
    with Interrupt() as interrupt:
        with output.loading(choice.path) as on_load:
            session = Session.open(
                choice.path,
                Options(
                    n_ctx=setting.ctx,
                    threads=setting.threads,
                    kv=setting.kv,
                    check_memory=not setting.force,
                    gpu_layers=setting.gpu_layers,
                    rpc=setting.rpc,
                    mlock=setting.mlock,
                    prompts=prompt_cache.wanted(setting.prompts),
                    stop=interrupt,
                    on_load=on_load,
                ),
            )
        with session:
            about = describe(session.header)
            _remark(session, about)
            model = {
                "path": str(choice.path),
                "origin": choice.origin,
                "architecture": about.architecture,
                "description": session.description,
                "synthetic": about.synthetic,
            }
            yield Place(
                LocalGenerator(session),
                session.n_ctx,
                interrupt,
                model,
                session.engine,
                fit=session.fit,
                offload=session.placement.offload,
            )


def _remark(session: Session, about: Description) -> None:
    output.remarks(about.architecture, about.synthetic, session.n_ctx, about.context_length)
    for note in session.notes:
        console.note(note)
    if session.prompts is not None and session.prompts.reason:
        console.note(f"no prompts are kept on disk: {session.prompts.reason}")
    cpus = cores.logical()
    if session.threads > cpus:
        console.warn(f"{session.threads} threads on {cpus} CPUs: fewer are faster")
