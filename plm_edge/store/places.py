"""Whether a model fits the memory of this machine and of the devices that a person has."""

from __future__ import annotations

from dataclasses import dataclass

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.devices import connect, facts
from plm_edge.devices.profiles import known
from plm_edge.machine.memory import Room
from plm_edge.model import fit
from plm_edge.model.fit import Fit
from plm_edge.model.sizes import Sizes


@dataclass(frozen=True)
class Place:
    """A machine for a model.

    Attributes:
        device: its name; empty: this machine.
        fit: the context and the cache that suit it. Where nothing fits, those with enough memory.
        free: the memory is what is free now; else all that the machine has, by its profile.
    """

    device: str
    fit: Fit
    free: bool


def here(model: Sizes) -> Place:
    """This machine, by what is free now."""
    return Place("", _chosen(model, None), free=True)


def device(model: Sizes, name: str) -> Place:
    """A device, by what is free there now.

    Raises:
        PlmEdgeError: there is no such device, it cannot be reached, or does not say.
    """
    with connect.open_device(name).transport as transport:
        room = facts.memory_available(transport)
    if room is None:
        raise PlmEdgeError(
            f"{name} does not say how much memory is free",
            "it has no /proc/meminfo with MemAvailable",
            "leave --device out for what its profile says",
            ExitCode.DEVICE,
        )
    return Place(name, _chosen(model, room), free=True)


def devices(model: Sizes) -> list[Place]:
    """The devices that were added, by their profiles: none of them is asked.

    One whose profile names no memory, or cannot be read, is left out.
    """
    found = []
    for name in known.devices():
        try:
            ram = connect.describe(name)[0].ram_bytes()
        except PlmEdgeError:  # `plm-edge devices` says what is wrong with it
            continue
        if ram:
            found.append(Place(name, _chosen(model, Room(ram, name)), free=False))
    return found


def _chosen(model: Sizes, room: Room | None) -> Fit:
    try:
        return fit.choose(model, room=room)
    except PlmEdgeError as error:
        if error.code is not ExitCode.RESOURCES:
            raise
        return fit.choose(model, room=room, force=True)
