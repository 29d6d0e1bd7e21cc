"""A placement says which layers of a model are computed elsewhere: on a GPU, or on other machines.

The engine counts from the end: the output first, then the last layer, and so on. What is before
stays here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from plm_edge.engine import accelerators, rpc
from plm_edge.engine.accelerators import Accelerator
from plm_edge.engine.library import Engine
from plm_edge.engine.options import AUTO, Options, choose_ctx
from plm_edge.engine.rpc import RpcServer
from plm_edge.machine import memory
from plm_edge.model import offload
from plm_edge.model.fit import PREFERRED_KV
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.model.offload import Offload


@dataclass(frozen=True)
class Placement:
    """Where layers go.

    Attributes:
        gpu_layers: how many go to `devices`: the output, and one less of the last layers.
        n_layers: that the model has.
        devices: addresses of ggml_backend_dev; none keeps all layers here.
        gpus: those among them that are in this machine.
        servers: the other machines.
        offload: what was reckoned for the GPUs; None where none was looked at.
    """

    gpu_layers: int
    n_layers: int
    devices: list[int] = field(default_factory=list)
    gpus: list[Accelerator] = field(default_factory=list)
    servers: list[RpcServer] = field(default_factory=list)
    offload: Offload | None = None

    @property
    def share_here(self) -> float:
        """The share of the layers whose weights and cache are in this machine's own memory."""
        if self.offload is not None:
            return self.offload.share_here
        if not self.devices:
            return 1.0
        return accelerators.share_here(self.n_layers, self.gpu_layers)

    @property
    def note(self) -> str | None:
        """One sentence that says what is computed where; None if nobody thought of elsewhere."""
        if self.offload is not None:
            return self.offload.note
        away = min(self.gpu_layers - 1, self.n_layers)
        if not self.devices or self.gpu_layers < 1:
            return None
        names = ", ".join(server.endpoint for server in self.servers)
        here = f"{self.n_layers - away} here" if away < self.n_layers else "none here"
        return f"{away} of {self.n_layers} layers and the output on {names}; {here}"


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
    chosen = offload.reckon(
        header,
        found,
        choose_ctx(header, options.n_ctx),
        PREFERRED_KV if options.kv == AUTO else options.kv,
        n_ubatch=options.n_ubatch,
        n_outputs=options.max_outputs,
        wanted=wanted,
    )
    used = found if chosen.layers else []
    return Placement(chosen.layers, n_layers, [gpu.handle for gpu in used], used, offload=chosen)


def layers_of(header: GGUFFile) -> int:
    """Returns how many layers a model has; 0 where its header does not say."""
    count = header.arch_key("block_count")
    return count if isinstance(count, int) else 0
