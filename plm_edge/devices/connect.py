"""`connect` opens a device by its name: one that was added, or a profile with an address."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from plm_edge.base import folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.devices import detect
from plm_edge.devices.facts import Facts
from plm_edge.devices.profiles import known, profile
from plm_edge.devices.profiles.profile import Profile
from plm_edge.devices.transports.transport import Transport


@dataclass(frozen=True)
class OpenDevice:
    """A device that can be used: what it is, and how to reach it. Nothing was sent yet.

    `cli_name` is what a person types to name it, such as `rpi5 --emulate`; remedies quote it.
    """

    name: str
    profile: Profile
    transport: Transport
    cli_name: str

    @property
    def folder(self) -> str:
        """The folder there that holds engine and models."""
        return self.profile.folder


def open_device(name: str, *, host: str | None = None, emulate: bool = False) -> OpenDevice:
    """Open the device that a name means.

    Args:
        name: a device that was added, or a profile; NAME@HOST gives the address at once.
        host: its address, instead of the remembered one.
        emulate: run its programs here under qemu.

    Raises:
        PlmEdgeError: there is no such device, or no way to reach it.
    """
    if host is None and "@" in name and name not in known.devices():
        name, _, host = name.partition("@")
    described, found = describe(name)
    if emulate:
        if host:
            raise PlmEdgeError(
                f"--emulate has no effect with an address ({host})",
                "qemu runs on this machine",
                f"say --device {name} --emulate, or leave --emulate out",
                ExitCode.USAGE,
            )
        transport = open_transport("qemu", "", described)
        return OpenDevice(name, described, transport, f"{name} --emulate")
    kind = found.transport if found else described.transport
    address = host if host is not None else (found.host if found else "")
    if kind == "ssh" and not address:
        raise PlmEdgeError(
            f"{name} has no address",
            f"{name} is a profile, and no machine of that kind was named",
            f"say {name}@USER@HOST, or --emulate, or once: plm-edge devices add my-{name} "
            f"--profile {name} --host USER@HOST",
            ExitCode.USAGE,
        )
    cli_name = name if host is None else f"{name}@{host}"
    return OpenDevice(name, described, open_transport(kind, address, described), cli_name)


def describe(name: str) -> tuple[Profile, known.AddedDevice | None]:
    """The profile that a name means, and the added device if the name is one's (else None).

    Raises:
        PlmEdgeError: neither a device nor a profile has that name.
    """
    remembered = known.devices()
    found = remembered.get(name)
    if found is None and name not in profile.names():
        raise _unknown(name, [*remembered, *profile.names()])
    return detect.profile_by_name(found.profile if found else name), found


def to_remember(
    name: str, profile_name: str, host: str, transport: str | None
) -> known.AddedDevice:
    """Make the entry to remember for a device.

    Args:
        name: what the person calls it.
        profile_name: what it is.
        host: its address; empty if it needs none.
        transport: how to reach it. None takes the profile's way.

    Raises:
        PlmEdgeError: there is no such profile or transport, or the address has the wrong form.
    """
    described = profile.find(profile_name)
    # An address for a profile that is this machine by default means another one.
    kind = transport or ("ssh" if host and described.transport == "local" else described.transport)
    if kind not in known.KINDS:
        raise PlmEdgeError(
            f"there is no transport {kind!r}",
            f"there are {', '.join(known.KINDS)}",
            "leave --transport out: the profile tells it",
            ExitCode.USAGE,
        )
    if described.detected and kind != "local":
        raise PlmEdgeError(
            f"{profile_name} is this machine, and {name} is another",
            f"the profile {profile_name} is read from the machine that plm-edge runs on",
            f"write one for it first: plm-edge devices detect --host {host or 'USER@HOST'} --save",
            ExitCode.USAGE,
        )
    if host:
        open_transport(kind, host, described)
    return known.AddedDevice(name, profile_name, kind, host)


def check_fits(remembered: known.AddedDevice) -> None:
    """Reach a device, and check that it is what its profile says.

    Raises:
        DeviceError: it cannot be reached.
        PlmEdgeError: it has another architecture, or its CPU lacks features that the profile
            promises.
    """
    described = detect.profile_by_name(remembered.profile)
    with open_transport(remembered.transport, remembered.host, described) as transport:
        facts = transport.facts()
    require_arch(remembered.name, described, facts)
    if lacks := sorted(set(described.features) - set(facts.features)):
        why = f"its CPU ({facts.cpu}) lacks {', '.join(lacks)}"
        raise _other(remembered.name, described, why)


def require_arch(name: str, described: Profile, facts: Facts) -> None:
    """Check that a machine has the architecture that its profile says.

    Raises:
        PlmEdgeError: it has another.
    """
    if facts.machine != described.arch:
        why = f"it is {facts.machine}, and the profile says {described.arch}"
        raise _other(name, described, why)


def _other(name: str, described: Profile, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{name} is no {described.name}",
        why,
        "choose another profile, or make one: plm-edge devices detect --host … --save",
        ExitCode.ENVIRONMENT,
    )


def open_transport(kind: str, host: str, described: Profile | None = None) -> Transport:
    """Open a transport. Nothing is sent yet.

    Args:
        kind: local, ssh, adb or qemu.
        host: the address, as `known.AddedDevice` has it.
        described: the profile that qemu emulates.

    Raises:
        PlmEdgeError: the address has the wrong form, or there is no emulator.
    """
    if kind == "ssh":
        from plm_edge.devices.transports.ssh import SshTransport

        return SshTransport(host)
    if kind == "adb":
        from plm_edge.devices.transports.adb import AdbTransport

        return AdbTransport(host or None)
    if kind == "qemu":
        from plm_edge.devices.transports.qemu import QemuTransport

        assert described
        return QemuTransport(described, _emulated_home(described))
    from plm_edge.devices.transports.local import LocalTransport

    return LocalTransport()


def _emulated_home(described: Profile) -> Path:
    return folders.cache() / "emulated" / described.name


def _unknown(name: str, names: list[str]) -> PlmEdgeError:
    close = difflib.get_close_matches(name, names, n=1)
    return PlmEdgeError(
        f"there is no device {name!r}",
        f"known are {', '.join(dict.fromkeys(names))}",
        f"did you mean {close[0]}?"
        if close
        else "add it: plm-edge devices add NAME --profile … --host …",
    )
