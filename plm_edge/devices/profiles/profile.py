"""Profiles are read from devices/*.toml, checked, and found by name; a person's own first."""

from __future__ import annotations

import difflib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.base import folders, place
from plm_edge.base.errors import PlmEdgeError
from plm_edge.devices.profiles import schema

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = "plm-edge/device/1"
# Tables that a profile must have, unless it is read from the machine ("detected")
_DESCRIBED = ("cpu", "build", "defaults")
_PLACES = place.shipped("devices", "devices")
_BYTES = {"GB": 10**9, "GiB": 2**30}


@dataclass(frozen=True)
class Measure:
    """A figure with its unit, and the source that it was read from."""

    value: float
    unit: str
    source: str

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


@dataclass(frozen=True)
class Cluster:
    """`count` cores of one kind; `clock` is their highest, in GHz, or None if no source says it."""

    core: str
    count: int
    clock: Measure | None


@dataclass(frozen=True)
class MeterSource:
    """What a meter of `bench` or `run --device` reads on the device, and the unit as it is read.

    `kind` is "command" (a command line whose output is read) or "files" (a pattern of files).
    `source` names what explains it, as in [sources].
    """

    kind: str
    read: str
    unit: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Profile:
    """What is known of a device.

    `data` is the profile as it is written (devices/schema.json). `origin` says where it comes from:
    "built-in", "user" or "detected". `path` is its file; None if it has none.
    """

    data: dict[str, Any]
    origin: str
    path: Path | None = None

    @property
    def name(self) -> str:
        """Its short name, such as rpi5."""
        return str(self.data["name"])

    @property
    def title(self) -> str:
        """Its name for people, such as Raspberry Pi 5."""
        return str(self.data["title"])

    @property
    def detected(self) -> bool:
        """Whether its other tables must be read from the machine (`detect.profile_of_host`)."""
        return bool(self.data.get("detected", False))

    @property
    def arch(self) -> str:
        """Its architecture as `uname -m` prints it: aarch64 or x86_64; empty before detection."""
        return str(self.section("cpu").get("arch", ""))

    @property
    def features(self) -> tuple[str, ...]:
        """The CPU features that every core has, by Linux's names."""
        return tuple(self.section("cpu").get("features", ()))

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """Its kinds of cores, the fastest first; empty if the profile is of a family of CPUs."""
        return tuple(
            Cluster(item["core"], item["count"], _measure(item.get("clock")))
            for item in self.section("cpu").get("clusters", ())
        )

    @property
    def cores(self) -> int:
        """The number of all cores; 0 if it is not known."""
        return sum(cluster.count for cluster in self.clusters)

    @property
    def meters(self) -> dict[str, MeterSource]:
        """Meters by what they measure: energy, temperature, frequency, throttling."""
        return {name: MeterSource(**item) for name, item in self.section("meters").items()}

    @property
    def transport(self) -> str:
        """The way it is reached: local, ssh or adb."""
        return str(self.data["transport"]["kind"])

    @property
    def folder(self) -> str:
        """Its folder for engine and models; a relative path starts at the login folder."""
        return str(self.data["transport"]["folder"])

    @property
    def emulator(self) -> tuple[str, str] | None:
        """The program and CPU model that emulate it: (qemu-aarch64, cortex-a76); or None."""
        found = self.section("emulator")
        return (found["program"], found["cpu"]) if found else None

    @property
    def sources(self) -> dict[str, str]:
        """What each name that a `source` field holds stands for."""
        return dict(self.data["sources"])

    def section(self, name: str) -> dict[str, Any]:
        """A table of the profile (cpu, memory, gpu, build, defaults …); empty if it has none."""
        return dict(self.data.get(name, {}))

    def measure(self, section: str, name: str) -> Measure | None:
        """A figure, such as measure("memory", "bandwidth"); None if no source says it."""
        return _measure(self.section(section).get(name))

    def ram_bytes(self) -> int | None:
        """The RAM of the usual variant, in bytes; None if it is not known."""
        ram = self.measure("memory", "ram")
        return int(ram.value * _BYTES[ram.unit]) if ram else None


def _measure(item: dict[str, Any] | None) -> Measure | None:
    return Measure(item["value"], item["unit"], item["source"]) if item else None


def user_dir() -> Path:
    """The folder of a person's own profiles."""
    return folders.config() / "devices"


def builtin_dir() -> Path:
    """The folder of the profiles that came with the program: the checkout's, else the wheel's."""
    return next((one for one in _PLACES if (one / "schema.json").is_file()), _PLACES[-1])


@functools.cache
def json_schema() -> dict[str, Any]:
    """The content of devices/schema.json."""
    return dict(json.loads((builtin_dir() / "schema.json").read_text(encoding="utf-8")))


def load(path: Path, origin: str = "user") -> Profile:
    """Read and check one profile.

    Raises:
        PlmEdgeError: the file is missing, no TOML, or not what devices/schema.json describes.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlmEdgeError(
            f"the device profile {path} cannot be read", str(error.strerror), "check the path"
        ) from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        raise _wrong(path, f"it is no TOML: {error}") from error
    check(data, path)
    if data["name"] != path.stem:
        raise _wrong(path, f"name is {data['name']!r}, and the file's name says {path.stem!r}")
    return Profile(data, origin, path)


def check(data: dict[str, Any], path: Path) -> None:
    """Check a profile's content; `path` is named in the error.

    Raises:
        PlmEdgeError: something is wrong; it names the first problem and counts the others.
    """
    found = [*schema.problems(data, json_schema())]
    if not found:
        found = [*_missing_parts(data), *_missing_sources(data)]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise _wrong(path, found[0] + more)


def _wrong(path: Path, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{path} is not a device profile",
        why,
        "compare with `plm-edge devices show rpi5 --toml`, or take the file away",
    )


def _missing_parts(data: dict[str, Any]) -> Iterator[str]:
    if not data.get("detected"):
        yield from (f"[{name}] is missing" for name in _DESCRIBED if name not in data)


def _missing_sources(data: dict[str, Any]) -> Iterator[str]:
    used = {name for key, value in data.items() if key != "sources" for name in _used(value)}
    for name in sorted(used - set(data["sources"])):
        yield f"source {name!r} is used, and [sources] does not explain it"


def _used(value: Any) -> Iterator[str]:
    """Names of sources in a part of a profile."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "source":
                yield item
            else:
                yield from _used(item)
    elif isinstance(value, list):
        for item in value:
            yield from _used(item)


def names() -> dict[str, Path]:
    """Every profile's name and file; a person's own replaces the built-in of the same name."""
    found = {path.stem: path for path in sorted(builtin_dir().glob("*.toml"))}
    found.update({path.stem: path for path in sorted(user_dir().glob("*.toml"))})
    return dict(sorted(found.items()))


def find(name: str) -> Profile:
    """Find a profile by its name; a person's own comes before a built-in one.

    Raises:
        PlmEdgeError: there is none, or it is broken.
    """
    known = names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise PlmEdgeError(
            f"there is no device profile {name!r}",
            f"known are {', '.join(known)}; your own go to {user_dir()}",
            f"did you mean {close[0]}?"
            if close
            else "see `plm-edge devices`, or write one: plm-edge devices detect --host USER@HOST",
        )
    return load(known[name], _origin(known[name]))


def all_profiles(broken: Callable[[PlmEdgeError], None] | None = None) -> list[Profile]:
    """Every profile, sorted by name.

    Args:
        broken: is called with the error of each profile that cannot be used, which is left out.
            None raises the first such error.

    Raises:
        PlmEdgeError: a profile is broken, and `broken` is None.
    """
    found = []
    for path in names().values():
        try:
            found.append(load(path, _origin(path)))
        except PlmEdgeError as error:
            if broken is None:
                raise
            broken(error)
    return found


def _origin(path: Path) -> str:
    return "user" if path.parent == user_dir() else "built-in"
