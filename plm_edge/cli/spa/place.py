"""Where a plugin's base is: on a server, here, or both."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli.spa.shared import ModeName

if TYPE_CHECKING:
    from plm_edge.cli.run.place import Place
    from plm_edge.spa.device import Generation
    from plm_edge.spa.here import Here
    from plm_edge.spa.plugin import Plugin
    from plm_edge.spa.source import Source
    from plm_edge.spa.standby import Standby


@dataclass(frozen=True)
class Where:
    """What the command line says of it; each is as the option of its name."""

    server: str | None
    fingerprint: str | None
    key_file: Path | None
    mode: ModeName
    base: str | None
    threads: int | None
    ctx: int | None
    window: int = 32

    def check(self) -> None:
        """Refuse a server in mode local, and another mode without one.

        Raises:
            PlmEdgeError: USAGE.
        """
        if (self.server is None) == (self.mode is ModeName.local):
            return
        raise PlmEdgeError(
            "it is not clear where the base is",
            "--server and --mode local exclude each other"
            if self.server
            else "no --server is given",
            "give --server URL, or --mode local and the base",
            ExitCode.USAGE,
        )

    def key(self) -> str:
        """Returns the server's key.

        Raises:
            PlmEdgeError: others may read its file, or there is none in it.
        """
        from plm_edge.serve import keys

        if self.key_file is not None:
            return keys.read(self.key_file)
        return os.environ.get(keys.VARIABLE, "").strip()


def open_source(
    own: Plugin,
    where: Where,
    temperature: float,
    seed: int,
    stop: Callable[[], bool] | None = None,
) -> tuple[Source, Standby | None]:
    """Returns a plugin's base, and the one here that goes on where a server is lost.

    Args:
        stop: stops a prompt, here and on a server; None: nothing does. Beside a server the base
            here computes in a thread, which does not ask: it is stopped once it goes on alone.

    Raises:
        PlmEdgeError: it is not clear where it is (USAGE), or it cannot be opened.
    """
    from plm_edge.engine.options import never
    from plm_edge.spa.remote import Remote
    from plm_edge.spa.standby import Standby

    where.check()
    if where.server is None:
        return _here(own, where, temperature, seed, stop or never)(), None
    remote = Remote(
        where.server, where.key(), where.fingerprint, own,
        window=where.window, temperature=temperature, seed=seed, hasty=where.base is not None,
        stop=stop or never,
    )  # fmt: skip
    if where.base is None:
        return remote, None

    def alone() -> bool:
        return threading.current_thread() is threading.main_thread() and wished()

    wished = stop or never
    return remote, Standby(_here(own, where, temperature, seed, alone if stop else never))


def _here(
    own: Plugin, where: Where, temperature: float, seed: int, stop: Callable[[], bool]
) -> Callable[[], Here]:
    """Returns what loads the base. That it is the plugin's is seen to now, before anything is
    sent."""
    from plm_edge.engine.options import Options
    from plm_edge.spa.here import Here, require_base
    from plm_edge.store import choice

    path = choice.choose(where.base).path
    require_base(path, own)
    options = Options(threads=where.threads, n_ctx=where.ctx, stop=stop)
    return lambda: Here(path, own, options, temperature, seed)


@contextmanager
def open_place(plugin: Path, where: Where, *, show: bool) -> Iterator[Place]:
    """Open a plugin and its base for a chat; while entered, Ctrl-C stops what they generate.

    Args:
        show: show after each answer which of its tokens were personal.

    Raises:
        PlmEdgeError: as `open_source`; or the plugin's file is damaged.
    """
    from plm_edge.cli.run.place import Place
    from plm_edge.engine.interrupt import Interrupt
    from plm_edge.generate.protocol import Text
    from plm_edge.spa import plugin as plugins
    from plm_edge.spa.chatting import SpaGenerator

    own = plugins.read(plugin)
    interrupt = Interrupt()
    source, standby = open_source(own, where, 0.0, 0, interrupt)
    remarks = _Remarks(own, show)
    with interrupt:
        generator = SpaGenerator(own, source, where.mode.value, standby, interrupt, remarks)
        try:
            generator.encode(Text.by("user", "x"))  # then it is known how long a text may be
            about = {"path": f"{plugin} ({where.server or 'here'})", "origin": "spa"}
            yield Place(generator, generator.source.length, interrupt, about, {})
        finally:
            generator.close()


class _Remarks:
    """Prints what each answer took. Bytes are counted from answer to answer."""

    def __init__(self, own: Plugin, show: bool) -> None:
        self._own, self._show, self._down, self._up = own, show, 0, 0

    def __call__(self, made: Generation) -> None:
        from plm_edge.spa.remote import Remote

        console.err.print()
        said = f"{made.made} tokens, {made.overrides} of them personal"
        if isinstance(made.source, Remote):
            link = made.source
            down, up = link.down - self._down, link.up - self._up
            self._down, self._up = link.down, link.up
            said += (
                f"; {down / max(1, made.made):,.0f} bytes a token came, {up:,} went up; round trip "
                f"{console.duration(link.rtt_s)}"
            )
        console.note(said)
        if made.moved is not None:
            console.note("the server was lost; the base here goes on")
        if self._show and made.personal:
            pieces = (self._own.vocabulary.piece(made.tokens[at]) for at in made.personal)
            words = " ".join(f"[{piece.decode('utf-8', 'replace')}]" for piece in pieces)
            console.note(f"personal: {console.printable(words)}")
