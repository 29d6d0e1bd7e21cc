"""devices.json in the config folder remembers the devices that a person added."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from plm_edge.base import files, folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.devices.profiles import profile

SCHEMA = "plm-edge/devices/1"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
KINDS = ("local", "ssh", "adb", "qemu")


@dataclass(frozen=True)
class AddedDevice:
    """A device that a person added under a name of their own.

    `profile` is the profile's name, `transport` is local, ssh, adb or qemu (emulated here). `host`
    is [USER@]HOST[:PORT] for ssh, and for adb a serial or host:port (empty: the only phone there
    is).
    """

    name: str
    profile: str
    transport: str
    host: str = ""


def path() -> Path:
    """The file that remembers devices."""
    return folders.config() / "devices.json"


def devices() -> dict[str, AddedDevice]:
    """All devices that were added, by name.

    Raises:
        PlmEdgeError: the file is damaged; it is never overwritten then.
    """
    place = path()
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"its schema is {data['schema']!r}, not {SCHEMA}")
        found = {name: AddedDevice(name=name, **item) for name, item in data["devices"].items()}
        for device in found.values():
            if not all(isinstance(value, str) for value in asdict(device).values()):
                raise ValueError(f"{device.name} holds something else than text")
            if device.transport not in KINDS:
                raise ValueError(f"{device.name} has the transport {device.transport!r}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlmEdgeError(
            f"the list of devices in {place} cannot be read",
            str(error),
            "mend it, or move it away and add the devices again",
            ExitCode.ENVIRONMENT,
        ) from error
    return found


def add(device: AddedDevice) -> bool:
    """Remember a device; one of the same name is replaced.

    Returns:
        Whether one was replaced.

    Raises:
        PlmEdgeError: the name is wrong, there is no such profile, ssh has no host, or the list
            cannot be written.
    """
    if not _NAME.match(device.name):
        raise PlmEdgeError(
            f"{device.name!r} cannot name a device",
            "a name begins with a letter or digit; dots, dashes and underscores may follow",
            "choose another name, such as kitchen-pi",
            ExitCode.USAGE,
        )
    profile.find(device.profile)
    if device.transport == "ssh" and not device.host:
        raise PlmEdgeError(
            f"{device.name} needs an address",
            f"the profile {device.profile} is reached by ssh",
            "say where it is: --host pi@raspberrypi.local",
            ExitCode.USAGE,
        )
    with _locked():
        known = devices()
        replaced = device.name in known
        _write({**known, device.name: device})
    return replaced


def remove(name: str) -> AddedDevice:
    """Forget a device, and return its entry. Nothing is done to the device itself.

    Raises:
        PlmEdgeError: there is none of that name, or the list cannot be written.
    """
    with _locked():
        known = devices()
        if name not in known:
            raise PlmEdgeError(
                f"there is no device {name!r}",
                f"known are {', '.join(known) or 'none yet'}",
                "see `plm-edge devices`",
            )
        device = known.pop(name)
        _write(known)
    return device


def _write(known: dict[str, AddedDevice]) -> None:
    items = {}
    for name, device in sorted(known.items()):
        items[name] = asdict(device)
        del items[name]["name"]
    text = json.dumps({"schema": SCHEMA, "devices": items}, indent=2) + "\n"
    files.write_text(path(), text, files.PRIVATE)


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the list's lock; a folder that cannot be written becomes a PlmEdgeError."""
    place = path()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(place.with_suffix(".lock")):
            yield
    except OSError as error:
        raise PlmEdgeError(
            "the device cannot be remembered",
            f"{place}: {error.strerror or error}",
            "set PLM_EDGE_CONFIG_DIR to a folder that you can write",
            ExitCode.ENVIRONMENT,
        ) from error
