"""A place is where `plm-edge run` generates: this machine, or a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plm_edge.cli.options import KVType
from plm_edge.engine import accelerators
from plm_edge.engine import rpc as servers
from plm_edge.engine.interrupt import Interrupt
from plm_edge.engine.options import AUTO
from plm_edge.generate.protocol import Generator
from plm_edge.model.fit import Fit
from plm_edge.model.offload import Offload


@dataclass(frozen=True)
class Setting:
    """How the model is to be opened. None lets the place and the model choose.

    Attributes:
        model: a GGUF here, or the name of a model.
        ctx: tokens of context.
        threads: how many compute.
        kv: type of the KV cache; auto: f16, a smaller one if memory is short.
        force: open it even if memory is short.
        gpu_layers: layers on the GPU or on other machines; None: as many as suit.
        rpc: other machines that compute layers, HOST:PORT each.
        mlock: keep the weights in memory.
        prompts: most disk for kept prompts, or off; None: as the environment says.
    """

    model: str | None
    ctx: int | None
    threads: int | None
    kv: str
    force: bool
    gpu_layers: int | None = None
    rpc: tuple[str, ...] = ()
    mlock: bool = False
    prompts: str | None = None


def setting_of(
    model: str | None,
    ctx: int | None,
    threads: int | None,
    kv: KVType | None,
    force: bool,
    *,
    gpu: str = "auto",
    rpc: str | None = None,
    mlock: bool = False,
    prompts: str | None = None,
) -> Setting:
    """Make a setting of the command line's options.

    Raises:
        PlmEdgeError: --gpu or --rpc says nothing (code USAGE).
    """
    return Setting(
        model,
        ctx,
        threads,
        kv.value if kv else AUTO,
        force,
        gpu_layers=accelerators.parse_layers(gpu),
        rpc=servers.parse(rpc),
        mlock=mlock,
        prompts=prompts,
    )


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
        fit: what was chosen for the memory there; None where that is not known.
        offload: what was reckoned for its GPUs; None without one.
    """

    generator: Generator
    n_ctx: int
    interrupt: Interrupt
    model: dict[str, Any]
    engine: dict[str, str]
    device: dict[str, Any] | None = None
    fit: Fit | None = None
    offload: Offload | None = None
