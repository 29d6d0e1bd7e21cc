"""A server of a base in this process, and scripts that decide as told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plm_edge.engine.options import Options
from plm_edge.spa import tls
from plm_edge.spa.base import Base
from plm_edge.spa.codec import Codec
from plm_edge.spa.device import Generation
from plm_edge.spa.frame import Rows
from plm_edge.spa.server import SpaServer

KEY = "a-key-for-tests"


@dataclass
class Scripted:
    """Decides otherwise than the base at some places, counted from the prompt's end."""

    overrides: Mapping[int, int]
    first: int = -1

    def choose(self, row: Rows, base: int, before: Sequence[int], position: int) -> int:
        if self.first < 0:
            self.first = position
        return self.overrides.get(position - self.first, base)


def wait_for(condition: Callable[[], object]) -> None:
    """Returns once it holds; fails when it does not for long."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


@contextmanager
def served(
    path: Path,
    base_hash: str,
    codec: Codec,
    options: Options,
    *,
    texts: int = 2,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[SpaServer]:
    """A server on a free port of this machine."""
    base = Base(path, codec, options, sequences=texts)
    length = base.session.n_ctx // texts
    try:
        with running(base, base_hash, texts=texts, length=length, certificate=certificate) as made:
            yield made
    finally:
        base.close()


@contextmanager
def running(
    base: Base,
    base_hash: str,
    *,
    texts: int = 2,
    length: int,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[SpaServer]:
    """A server of a loaded base, as `served`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = SpaServer(base, base_hash, KEY, texts=texts, length=length)
    context = tls.server_context(*certificate) if certificate else None
    asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0, context), loop).result(60)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def written(generation: Generation, prompt: str, count: int) -> list[int]:
    """The tokens of a prompt and of at most `count` after it; the generation is closed."""
    try:
        for _ in generation.steps(prompt, count):
            pass
        return generation.tokens
    finally:
        generation.close()
