"""This module finds what is deployed on a device, and decides how it runs there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.deploy import gpu, record
from plm_edge.deploy.place import MANIFEST, SERVING, Place
from plm_edge.deploy.record import DeployedModel, Record
from plm_edge.deploy.server import Settings, program_of, serving_pid
from plm_edge.devices import facts
from plm_edge.devices.connect import OpenDevice
from plm_edge.devices.transports.words import quote
from plm_edge.model import fit
from plm_edge.model.fit import Fit
from plm_edge.model.offload import Offload


@dataclass(frozen=True)
class Deployment:
    """What is deployed on a device, and the model that is meant.

    `cli_name`: see connect.OpenDevice.
    """

    place: Place
    record: Record
    model: DeployedModel
    cli_name: str


def find(device: OpenDevice, model: Path | None) -> Deployment:
    """Find what is deployed on a device.

    Args:
        model: a file here that was deployed. None takes the model that was deployed last.

    Raises:
        PlmEdgeError: nothing is deployed there, or not this model, or a file there was changed.
    """
    place = Place(device.transport, device.folder)
    known = record.read(place)
    if known is None:
        raise PlmEdgeError(
            f"nothing is deployed on {device.name}",
            f"there is no {place.path(MANIFEST)} on {place.transport.name}",
            f"put engine and model there first: plm-edge deploy --device {device.cli_name}",
        )
    chosen = known.current
    if model is not None:
        digest = files.sha256(model)
        if digest not in known.models:
            names = ", ".join(item.name for item in known.models.values())
            raise PlmEdgeError(
                f"{model.name} is not on {device.name}",
                f"there are {names}, and none has its content",
                f"put it there first: plm-edge deploy {model} --device {device.cli_name}",
            )
        chosen = known.models[digest]
    _require_unchanged(place, device, [*known.engine.files, chosen.file])
    return Deployment(place, known, chosen, device.cli_name)


def _require_unchanged(
    place: Place, device: OpenDevice, files_there: list[record.DeployedFile]
) -> None:
    """Check sizes, and that no file is newer than the manifest: hashing would take too long.

    Raises:
        PlmEdgeError: one file is missing or was changed.
    """
    manifest = quote(place.path(MANIFEST))
    checks = "\n".join(
        f"[ -f {path} ] && [ $(wc -c < {path}) -eq {item.size} ] && "
        f'[ -z "$(find {path} -newer {manifest})" ] || echo {quote(item.path)}'
        for item in files_there
        for path in [quote(place.path(item.path))]
    )
    broken = place.transport.shell(f"{checks}\nexit 0", check=True).text.split("\n")[0]
    if broken:
        raise PlmEdgeError(
            f"what is on {device.name} is not what was deployed",
            f"{broken} is missing there, or was changed since",
            "deploy it again: only what differs is sent: "
            f"plm-edge deploy --device {device.cli_name}",
            ExitCode.DEVICE,
        )


def settings(
    deployment: Deployment,
    *,
    n_ctx: int | None = None,
    threads: int | None = None,
    kv: str | None = None,
    force: bool = False,
    gpu_layers: int | None = None,
    **more: Any,
) -> tuple[Settings, Fit | None, Offload | None]:
    """How to run a deployed model. None lets the device's memory, its record and the model choose.

    A device that does not say how much memory it has is trusted.

    Args:
        n_ctx: tokens of context.
        threads: threads on the device.
        kv: type of the KV cache.
        force: run it even if memory is short.
        gpu_layers: layers on its GPU, as the engine counts them; None: as the deployment says.
        more: other fields of `Settings`.

    Returns:
        The settings; what was chosen for the device's memory, None where that is not known; and
        for its GPU, None without one.

    Raises:
        PlmEdgeError: it will not fit (code RESOURCES).
    """
    room = facts.memory_available(deployment.place.transport)
    model, known = deployment.model.sizes, deployment.record
    preferred = n_ctx or fit.preferred_ctx(model), kv or fit.PREFERRED_KV
    program = deployment.place.path(program_of([item.path for item in known.engine.files]))
    wanted = known.gpu_layers if gpu_layers is None else gpu_layers
    there = gpu.choose(
        deployment.place, program, known.engine.backend, deployment.model, *preferred, wanted
    )
    share = there.share_here if there else 1.0
    chosen = (
        None if room is None else fit.choose(model, n_ctx, kv, room=room, force=force, share=share)
    )
    n_ctx, kv = (chosen.n_ctx, chosen.kv) if chosen else preferred
    found = Settings(
        program=program,
        model=deployment.place.path(deployment.model.file.path),
        n_ctx=n_ctx,
        threads=threads or deployment.record.threads,
        kv=kv,
        more=gpu.words(there, wanted),
        **more,
    )
    return found, chosen, there


def require_no_server(deployment: Deployment) -> None:
    """Refuse a device on which a server runs already.

    Raises:
        PlmEdgeError: it does.
    """
    pid = serving_pid(deployment.place)
    if pid is not None:
        raise PlmEdgeError(
            f"a server runs on {deployment.record.device} already",
            f"its process there is {pid}, says {deployment.place.path(SERVING)}",
            f"stop it: plm-edge stop --device {deployment.cli_name}",
            ExitCode.DEVICE,
        )
