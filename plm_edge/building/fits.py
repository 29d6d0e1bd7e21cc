"""`fits` says whether a device can run a build, before the build is sent or started."""

from __future__ import annotations

import re
from collections.abc import Collection

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building.manifest import Manifest

# Linux's name of a feature → the name that people use, where it is another
_KNOWN_AS = {
    "asimddp": "dotprod", "asimdhp": "fp16", "atomics": "LSE atomics", "asimdfhm": "fp16fml",
    "asimdrdm": "rdm", "pni": "sse3", "abm": "lzcnt",
}  # fmt: skip


def require_fits(
    manifest: Manifest,
    device: str,
    arch: str,
    features: Collection[str],
    libc: str = "",
    system: str = "",
) -> None:
    """Refuse a build that would meet an instruction, or a library, that the device lacks.

    Args:
        manifest: of the build.
        device: the device's name, for the error.
        arch: the device's architecture, as `uname -m` prints it.
        features: what every core has, by Linux's names (a profile's, or Facts.features).
        libc: as `getconf GNU_LIBC_VERSION` prints it ("glibc 2.36"), or "bionic"; empty if unknown.
        system: as `uname -s` prints it; empty if unknown.

    Raises:
        PlmEdgeError: the build does not run there (code ENVIRONMENT).
    """
    why = ""
    lacking = [name for name in manifest.requires if name not in features]
    if manifest.arch != arch:
        why = f"its programs are for {manifest.arch}, and {device} is {arch}"
    elif system not in ("", manifest.system):
        why = f"its programs are for {manifest.system}, and {device} runs {system}"
    elif lacking:
        named = ", ".join(map(_named, lacking))
        why = f"its programs hold instructions of {named}, which {device} lacks"
    elif (found := re.search(r"glibc ([\d.]+)", libc)) and _older(found[1], manifest.glibc):
        why = f"it needs glibc {manifest.glibc}, and {device} has {found[1]}"
    elif manifest.glibc and libc == "bionic":
        why = f"it needs glibc {manifest.glibc}, and {device} runs Android, which has none"
    if why:
        raise PlmEdgeError(
            f"the engine for {manifest.device} does not run on {device}",
            why,
            f"build one for it: plm-edge engine build --device {device}",
            ExitCode.ENVIRONMENT,
        )


def _older(version: str, wanted: str) -> bool:
    return bool(wanted) and _numbers(version) < _numbers(wanted)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part]


def _named(feature: str) -> str:
    known = _KNOWN_AS.get(feature)
    return f"{known} ({feature})" if known else feature
