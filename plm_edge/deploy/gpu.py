"""Which layers of a model go to a device's GPU: llama-server there says which GPUs there are."""

from __future__ import annotations

from plm_edge.base.errors import PlmEdgeError
from plm_edge.deploy.place import Place
from plm_edge.deploy.record import ModelHeader
from plm_edge.devices.transports.transport import Transport
from plm_edge.engine import accelerators
from plm_edge.model import offload
from plm_edge.model.need import N_BATCH
from plm_edge.model.offload import Gpu, Offload


def choose(
    place: Place,
    program: str,
    backend: str,
    model: ModelHeader,
    n_ctx: int,
    kv: str,
    wanted: int | None,
) -> Offload | None:
    """Decide how many layers go to the GPU.

    Args:
        program: llama-server's path there.
        backend: the engine's; empty: it computes on the CPU.
        wanted: layers, as the engine counts them; None: as many as fit.

    Returns:
        None where the engine has no GPU to decide about.

    Raises:
        PlmEdgeError: layers were asked to go to a GPU, and there is none (code ENVIRONMENT).
    """
    found = gpus(place.transport, program) if backend and wanted != 0 else ()
    if not found:
        if wanted:
            raise _none(place, backend)
        return None
    if model.parts is None:
        return None
    return offload.reckon(
        model.sizes, found, n_ctx, kv,
        n_ubatch=N_BATCH, n_outputs=N_BATCH, wanted=wanted, where=model.parts,
    )  # fmt: skip


def gpus(device: Transport, program: str) -> tuple[Gpu, ...]:
    """Returns the GPUs that llama-server finds on a device.

    Raises:
        DeviceError: the device cannot be reached.
    """
    return accelerators.listed(device.run([program, "--list-devices"]).text)


def words(chosen: Offload | None, wanted: int | None) -> tuple[str, ...]:
    """Returns the words with which llama-server does what was chosen."""
    if chosen is not None:
        return chosen.words
    return ("--device", "none") if wanted == 0 else ()


def _none(place: Place, backend: str) -> PlmEdgeError:
    if backend:
        return accelerators.none_found(f"the engine on {place.transport.name}")
    return accelerators.for_cpu(
        f"the engine on {place.transport.name}",
        "deploy one with a GPU's backend (a profile with a section [gpu]), or leave --gpu out",
    )
