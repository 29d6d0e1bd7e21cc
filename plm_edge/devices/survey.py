"""A survey asks one machine what it is, and writes the profile that follows."""

from __future__ import annotations

import re
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.devices import connect, detect
from plm_edge.devices.facts import Facts
from plm_edge.devices.profiles import profile, toml_writer
from plm_edge.devices.profiles.profile import Profile


def survey(
    host: str | None, adb: str | None, name: str | None, out: Path | None, save: bool
) -> tuple[Facts, Profile, Path | None]:
    """Ask a machine what it is, make its profile, and write that if asked to.

    Args:
        host: the machine's ssh address.
        adb: the phone's serial. With neither, this machine is asked.
        name: the profile's name. None takes the stem of `out`, else the machine's model.
        out: the file to write; None or `-` writes none.
        save: write it among the person's own profiles.

    Returns:
        What the machine reports, the profile, and the file that was written (or None).

    Raises:
        PlmEdgeError: two machines or two files are named, or the profile cannot be made or written.
        DeviceError: the machine cannot be reached.
    """
    if (host is not None and adb is not None) or (save and out is not None):
        both = "--host and --adb" if adb is not None else "--save and --out"
        raise PlmEdgeError(
            "the command line is not right", f"{both} exclude each other", "leave one out",
            ExitCode.USAGE,
        )  # fmt: skip
    kind, address = ("ssh", host) if host is not None else ("adb", adb)
    if address is None:
        kind, address = "local", ""
    with connect.open_transport(kind, address) as device:
        facts = device.facts()
        who = device.name
    path = None if out is None or str(out) == "-" else out
    title = name or (path.stem if path else facts.model or facts.cpu or "device")
    found = detect.profile_of(facts, _plain(title), kind, who)
    if save:
        path = profile.user_dir() / f"{found.name}.toml"
    if path is not None:
        profile.check(found.data, path)
        _write(path, toml_writer.dumps(found.data))
    return facts, found, path


def _plain(title: str) -> str:
    """Turn a title into a profile's name: Raspberry Pi 5 Model B → raspberry-pi-5-model-b."""
    return re.sub(r"[^a-z0-9._]+", "-", title.lower()).strip("-._") or "device"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text)
    except OSError as error:
        raise PlmEdgeError(
            "the profile cannot be written",
            f"{path}: {error.strerror or error}",
            "choose another place with --out",
            ExitCode.ENVIRONMENT,
        ) from error
