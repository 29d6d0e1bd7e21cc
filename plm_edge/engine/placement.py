"""A placement says which layers of a model are computed elsewhere: on a GPU, or on other machines.

The engine counts layers from the last one, and the output as one more. What is before them stays
here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from plm_edge.engine import accelerators, rpc
from plm_edge.engine.accelerators import Accelerator
from plm_edge.engine.library import Engine
from plm_edge.engine.options import Options
from plm_edge.engine.rpc import RpcServer
from plm_edge.machine import memory
from plm_edge.model.gguf_file import GGUFFile


@dataclass(frozen=True)
class Placement:
    """Where layers go.

    Attributes:
        gpu_layers: how many of the last layers go to `devices`; one more is the output.
        n_layers: that the model has.
        devices: addresses of ggml_backend_dev; none keeps all layers here.
        gpus: those among them that are in this machine.
        servers: the other machines.
    """

    gpu_layers: int
    n_layers: int
    devices: list[int] = field(default_factory=list)
    gpus: list[Accelerator] = field(default_factory=list)
    servers: list[RpcServer] = field(default_factory=list)

    @property
    def share_here(self) -> float:
        """The share of the layers whose weights and cache are in this machine's own memory."""
        if not self.devices:
            return 1.0
        return accelerators.share_here(self.n_layers, self.gpu_layers)

    @property
    def note(self) -> str | None:
        """One sentence that says what is computed where; None if all of it is here."""
        away = min(self.gpu_layers, self.n_layers)
        if not self.devices or not away:
            return None
        names = [f"{gpu.name} ({gpu.description})" for gpu in self.gpus]
        names += [server.endpoint for server in self.servers]
        here = f"{self.n_layers - away} here" if away < self.n_layers else "none here"
        return f"{away} of {self.n_layers} layers on {', '.join(names)}; {here}"


def place(engine: Engine, header: GGUFFile, options: Options) -> Placement:
    """Decide where layers go, and connect to the other machines.

    Raises:
        PlmEdgeError: a server is unreachable or of another version (DEVICE), or layers were asked
            to go to a GPU and there is none (ENVIRONMENT).
    """
    n_layers = layers_of(header)
    wanted = options.gpu_layers
    if options.rpc:
        servers = [rpc.ask(endpoint, engine.info.tree) for endpoint in options.rpc]
        devices = rpc.devices(engine, servers)
        if wanted is None:
            there = [free for server in servers for free in server.free]
            wanted = accelerators.layers_for(n_layers, memory.total(), there)
        return Placement(wanted, n_layers, devices, servers=servers)
    found = [] if wanted == 0 else accelerators.gpus(engine)
    if wanted and not found:
        found = accelerators.require_gpu(engine)
    if not found:
        return Placement(0, n_layers)
    layers = accelerators.ALL if wanted is None else wanted
    return Placement(layers, n_layers, [gpu.handle for gpu in found], found)


def layers_of(header: GGUFFile) -> int:
    """Returns how many layers a model has; 0 where its header does not say."""
    count = header.arch_key("block_count")
    return count if isinstance(count, int) else 0
