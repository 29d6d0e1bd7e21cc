"""This module gives the content of the tables and JSON about devices, and draws nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from plm_edge.devices.facts import Facts
from plm_edge.devices.profiles.known import AddedDevice
from plm_edge.devices.profiles.profile import Profile

Row = tuple[str, Any, str]  # label, figure with its unit, name of its source or ""


def listing(profiles: list[Profile], own: dict[str, AddedDevice]) -> dict[str, Any]:
    """The JSON of `plm-edge devices`."""
    return {
        "schema": "plm-edge/devices-list/1",
        "devices": [added_device(device) for device in own.values()],
        "profiles": [summary(profile) for profile in profiles],
    }


def added_device(device: AddedDevice) -> dict[str, Any]:
    """An added device in JSON."""
    return asdict(device)


def summary(profile: Profile) -> dict[str, Any]:
    """A profile in a few fields. `memory` and `bandwidth` are the GPU's if it has its own."""
    gpu, memory = profile.section("gpu"), profile.section("memory")
    return {
        "name": profile.name,
        "title": profile.title,
        "origin": profile.origin,
        "arch": profile.arch or None,
        "cores": profile.cores or None,
        "ram": memory.get("ram"),
        "memory": gpu.get("memory"),
        "bandwidth": gpu.get("bandwidth") or memory.get("bandwidth"),
        "reached": gpu.get("reached") or memory.get("reached"),
        "backend": gpu.get("backend"),
        "transport": profile.transport,
    }


def details(profile: Profile, device: AddedDevice | None) -> dict[str, Any]:
    """The JSON of `plm-edge devices show`."""
    return {
        "schema": "plm-edge/device-details/1",
        "device": added_device(device) if device else None,
        "origin": profile.origin,
        "path": str(profile.path) if profile.path else None,
        "profile": profile.data,
    }


def detection(facts: Facts, profile: Profile, path: Path | None) -> dict[str, Any]:
    """The JSON of `plm-edge devices detect`: `facts` has sizes in bytes, clocks in GHz."""
    return {
        "schema": "plm-edge/device-detected/1",
        "facts": facts.as_json(),
        "profile": profile.data,
        "path": str(path) if path else None,
    }


def change(device: AddedDevice, what: str) -> dict[str, Any]:
    """The JSON of `plm-edge devices add` and `remove`; `what` is added, replaced or removed."""
    return {"schema": "plm-edge/device-changed/1", "change": what, "device": added_device(device)}


def sections(profile: Profile, device: AddedDevice | None = None) -> dict[str, list[Row]]:
    """The rows that explain a profile, by heading, in the order in which a person reads them."""
    return {
        f"{profile.name}: {profile.title}": _head(profile, device),
        "CPU": _cpu(profile),
        "memory": _memory(profile),
        "GPU": _gpu(profile),
        "defaults": _defaults(profile),
        "meters": _meters(profile),
        "build": _build(profile),
    }


def _head(profile: Profile, device: AddedDevice | None) -> list[Row]:
    rows: list[Row] = [("note", profile.data["note"], "")] if "note" in profile.data else []
    if device:
        address = f" {device.host}" if device.host else ""
        rows.append(("yours", f"{device.name}, by {device.transport}{address}", ""))
    rows.append(("reached by", f"{profile.transport}, into {profile.folder}", ""))
    rows.append(("profile", str(profile.path or "read from the machine"), ""))
    return rows


def _cpu(profile: Profile) -> list[Row]:
    cpu = profile.section("cpu")
    if not cpu:
        return []
    rows: list[Row] = [("name", cpu["name"], cpu["source"])] if "name" in cpu else []
    rows.append(("ISA", f"{cpu['arch']}, {cpu['isa']}", cpu["source"]))
    for item in cpu.get("clusters", ()):
        clock = item.get("clock")
        speed = f" at {clock['value']:g} {clock['unit']}" if clock else ""
        source = (clock or item)["source"]
        rows.append(("cores", f"{item['count']} x {item['core']}{speed}", source))
    rows.append(("features", " ".join(cpu["features"]), cpu["source"]))
    return rows


def _memory(profile: Profile) -> list[Row]:
    memory = profile.section("memory")
    rows: list[Row] = [("kind", memory["kind"], "")] if "kind" in memory else []
    return rows + _measures(memory, {"ram": "RAM", "bandwidth": "bandwidth", "reached": "reached"})


def _gpu(profile: Profile) -> list[Row]:
    gpu = profile.section("gpu")
    if not gpu:
        return []
    arch = f", architecture {gpu['arch']}" if "arch" in gpu else ""
    rows: list[Row] = [
        ("name", gpu["name"], gpu["source"]),
        ("backend", f"{gpu['backend']}{arch}", gpu["source"]),
    ]
    if gpu.get("unified"):
        rows.append(("memory", "shared with the CPU", gpu["source"]))
    names = {
        "memory": "memory",
        "bandwidth": "bandwidth",
        "reached": "reached",
        "f16": "f16 products",
    }
    return rows + _measures(gpu, names)


def _measures(table: dict[str, Any], names: dict[str, str]) -> list[Row]:
    rows: list[Row] = []
    for key, label in names.items():
        if key in table:
            item = table[key]
            also = "".join(f", {value:g}" for value in item.get("also", ()))
            text = f"{item['value']:g} {item['unit']}" + (f" (also{also[1:]})" if also else "")
            how = f" ({item['how']})" if "how" in item else ""
            rows.append((label, text + how, item["source"]))
    return rows


def _defaults(profile: Profile) -> list[Row]:
    defaults = profile.section("defaults")
    if not defaults:
        return []
    rows: list[Row] = [
        ("threads", defaults["threads"], ""),
        ("quantisation", defaults["quant"], ""),
        ("KV cache", defaults["kv_type"], ""),
        ("context", f"{defaults['context']} tokens", ""),
    ]
    if "gpu_layers" in defaults:
        layers = defaults["gpu_layers"]
        rows.append(("on the GPU", "all layers" if layers < 0 else f"{layers} layers", ""))
    return [*rows, ("why", defaults["why"], "")]


def _meters(profile: Profile) -> list[Row]:
    return [
        (name, f"{meter.read}  in {meter.unit}", meter.source)
        for name, meter in profile.meters.items()
    ]


def _build(profile: Profile) -> list[Row]:
    build = profile.section("build")
    if not build:
        return []
    rows: list[Row] = [
        ("target", f"{build['triple']}, -mcpu={build['cpu']}, {build['linkage']}", ""),
        ("cmake", " ".join(build.get("flags", ())), ""),
        ("CPU variants", " ".join(build.get("variants", ())), ""),
    ]
    if "note" in build:
        rows.append(("note", build["note"], ""))
    if profile.emulator:
        emulator = profile.section("emulator")
        note = f" ({emulator['note']})" if "note" in emulator else ""
        rows.append(
            (
                "emulated by",
                f"{emulator['program']} -cpu {emulator['cpu']}{note}",
                emulator["source"],
            )
        )
    return rows
