"""A plugin is put on a device, with the client that runs it, and proven there.

FOLDER/plugins/HASH/NAME     a plugin, which nobody else on the device may read
FOLDER/spa/HASH/client.pyz   the client (packing)
FOLDER/plugins.json          is written last, the newest plugin last
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.deploy.place import Place
from plm_edge.devices.connect import OpenDevice
from plm_edge.devices.transports.failures import DeviceError
from plm_edge.spa import client, packing
from plm_edge.spa import plugin as plugins

MANIFEST = "plugins.json"
SCHEMA = "plm-edge/deployed-plugins/1"
OLDEST_PYTHON = (3, 10)
_ASKED = (
    "import sys; v = sys.version_info[:2]\n"
    "try:\n import numpy; n = numpy.__version__\n"
    "except ImportError: n = ''\n"
    "print(v[0], v[1], n)"
)
Progress = Callable[[str, int, int], None]  # what, done, in all (bytes)


@dataclass(frozen=True)
class DeployedPlugin:
    """A plugin on a device.

    Attributes:
        name: of its file.
        sha256: of its content; `base` and `codec` are those that it names.
        path, client: relative to our folder there.
        python, numpy: their versions there.
        proof: tokens that it chose there as here.
    """

    name: str
    sha256: str
    size: int
    base: str
    codec: str
    path: str
    client: str
    python: str
    numpy: str
    proof: list[int]


def deploy(
    device: OpenDevice, path: Path, progress: Progress, step: Callable[[str], None]
) -> tuple[DeployedPlugin, list[str]]:
    """Put a plugin and its client on a device, and prove that it chooses there as here.

    Args:
        progress: is called while a file is sent: its path, bytes done, bytes in all.
        step: is called with what happens next, in words for a person.

    Returns:
        What is there now, and which files were sent.

    Raises:
        PlmEdgeError: it is no plugin, the device has no Python with numpy, or the proof fails.
        DeviceError: the device failed (see `transports.failures`).
    """
    own, digest = plugins.read(path), files.sha256(path)
    place = Place(device.transport, device.folder)
    step("looking what is there")
    _require_numpy(device)
    packed = packing.client()
    key = hashlib.sha256(packed).hexdigest()
    there = (f"spa/{key[:16]}/client.pyz", f"plugins/{digest[:16]}/{path.name}")
    known = _read(place)
    place.announce(there)
    sent: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "client.pyz"
            program.write_bytes(packed)
            for source, target in zip((program, path), there, strict=True):

                def report(done: int, total: int, target: str = target) -> None:
                    progress(target, done, total)

                if device.transport.put(source, place.path(target), mode=0o600, progress=report):
                    sent.append(target)
        step("proving it there")
        found = _prove(place, there, client.proof(own), f"{path.name} on {device.name}")
    except BaseException:
        # A plugin is personal: one that nobody can use does not stay, nor what an attempt before
        # could not take away.
        for target in set(there).difference(*((one.path, one.client) for one in known)):
            with suppress(DeviceError):
                place.drop(target)
        raise
    made = DeployedPlugin(
        path.name, digest, path.stat().st_size, own.base, own.codec.sha256(), there[1], there[0],
        found["python"], found["numpy"], found["proof"],
    )  # fmt: skip
    kept = [one for one in known if one.sha256 != digest]
    plugins_now = [asdict(one) for one in (*kept, made)]
    place.announce([MANIFEST])
    place.write(MANIFEST, json.dumps({"schema": SCHEMA, "plugins": plugins_now}, indent=2) + "\n")
    return made, sent


def _prove(place: Place, there: tuple[str, str], expected: list[int], what: str) -> dict[str, Any]:
    """Returns what the client says of itself, when it chooses as expected."""
    found: dict[str, Any] = {}
    talk(place, there[0], {"do": "prove", "plugin": place.path(there[1])}, found.update)
    if found.get("proof") == expected:
        return found
    raise PlmEdgeError(
        f"{what} chooses other tokens than here",
        f"numpy {found.get('numpy')} there computes {found.get('proof')}",
        "try another version of numpy there; nothing was put in place",
        ExitCode.DEVICE,
    )


def find(device: OpenDevice, path: Path | None) -> DeployedPlugin:
    """Returns a plugin that was deployed.

    Args:
        path: a file here that was deployed. None takes the one that was deployed last.

    Raises:
        PlmEdgeError: it is not there.
    """
    known = _read(Place(device.transport, device.folder))
    wanted = None if path is None else files.sha256(path)
    found = [one for one in known if wanted in (None, one.sha256)]
    if found:
        return found[-1]
    raise PlmEdgeError(
        f"{path.name if path else 'a plugin'} is not on {device.name}",
        f"there are {', '.join(o.name for o in known)}" if known else "there is none",
        f"put it there first: plm-edge deploy {path or 'PLUGIN'} --device {device.cli_name}",
    )


def talk(
    place: Place, program: str, asked: dict[str, Any], hear: Callable[[dict[str, Any]], None]
) -> None:
    """Run the client on a device.

    Args:
        program: its place, relative to our folder.
        asked: what it reads.
        hear: is called with each object that it writes.

    Raises:
        PlmEdgeError: the client's own, or that it failed.
        DeviceError: the device failed.
    """
    rest = bytearray()
    refused: list[PlmEdgeError] = []

    def listen(part: bytes) -> None:
        rest.extend(part)
        while b"\n" in rest:
            line, _, after = bytes(rest).partition(b"\n")
            rest[:] = after
            said = json.loads(line)
            if "error" in said:
                what, why, fix, code = said["error"]
                refused.append(PlmEdgeError(what, why, fix, ExitCode(code)))
            else:
                hear(said)

    done = place.transport.run(
        ["python3", place.path(program)],
        stdin=json.dumps(asked).encode() + b"\n",
        on_stdout=listen,
    )
    if refused:
        raise refused[0]
    if error := place.transport.failure(done):
        raise error


def _require_numpy(device: OpenDevice) -> None:
    done = device.transport.run(["python3", "-c", _ASKED])
    words = done.text.split()
    if not done.exit_code and len(words) == 3 and (int(words[0]), int(words[1])) >= OLDEST_PYTHON:
        return
    found = f"its Python {'.'.join(words[:2])} has no numpy" if words else "python3 is not there"
    if len(words) == 3:
        found = f"its Python is {'.'.join(words[:2])}, and the client needs 3.10"
    raise PlmEdgeError(
        f"{device.name} cannot run a plugin",
        found,
        "install it there, such as: sudo apt install python3-numpy",
        ExitCode.DEVICE,
    )


def _read(place: Place) -> list[DeployedPlugin]:
    """The plugins on a device; none where the list is damaged: a new one replaces it."""
    text = place.read(MANIFEST)
    try:
        data = json.loads(text or "")
        return [DeployedPlugin(**one) for one in data["plugins"] if data["schema"] == SCHEMA]
    except (ValueError, KeyError, TypeError):
        return []
