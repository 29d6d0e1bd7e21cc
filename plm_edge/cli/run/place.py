"""A place is where `plm-edge run` generates: this machine, or a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plm_edge.engine.interrupt import Interrupt
from plm_edge.generate.protocol import Generator


@dataclass(frozen=True)
class Setting:
    """How the model is to be opened. None lets the place and the model choose.

    Attributes:
        model: a GGUF here, or the name of a model.
        ctx: tokens of context.
        threads: how many compute.
        kv: type of the KV cache.
        force: open it even if memory is short.
    """

    model: str | None
    ctx: int | None
    threads: int | None
    kv: str
    force: bool


@dataclass(frozen=True)
class Place:
    """A model that is ready to generate, and what --json says of it.

    Attributes:
        generator: generates while the place is open.
        n_ctx: tokens of context that it has.
        interrupt: stops what it generates.
        model: path, origin, architecture, description, synthetic.
        engine: version, pin, tree.
        device: name, address and profile; and throttled, once the place is closed. None on this
            machine.
    """

    generator: Generator
    n_ctx: int
    interrupt: Interrupt
    model: dict[str, Any]
    engine: dict[str, str]
    device: dict[str, Any] | None = None
