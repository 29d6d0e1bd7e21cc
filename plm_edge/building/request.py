"""A request is what a person typed, turned into what is to be built."""

from __future__ import annotations

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building.target import BACKENDS, COMPILERS, Target, target_of
from plm_edge.devices import connect
from plm_edge.devices.profiles.profile import Profile


def profile_for(device: str) -> Profile:
    """The profile that a name means: a profile's name, or that of a device that was added.

    Raises:
        PlmEdgeError: there is none of that name.
    """
    return connect.describe(device)[0]


def target_for(device: str, compiler: str | None = None, *, gpu: bool | str = True) -> Target:
    """What to build for a device, by name.

    Args:
        device: a profile, or a device that was added.
        compiler: zig, gcc, or None for the one that suits.
        gpu: whether to build for the GPU that the profile names as well; or a backend's name.

    Raises:
        PlmEdgeError: no such device, compiler or backend.
    """
    if isinstance(gpu, str) and gpu not in BACKENDS:
        raise PlmEdgeError(
            f"there is no GPU backend {gpu!r} to choose",
            f"known are {', '.join(BACKENDS)}; auto takes the device's, off none",
            "leave --gpu out for the one that the device has",
            ExitCode.USAGE,
        )
    if compiler is not None and compiler not in COMPILERS:
        raise PlmEdgeError(
            f"there is no compiler {compiler!r} to choose",
            f"known are {' and '.join(COMPILERS)}",
            "leave --compiler out for the one that suits",
            ExitCode.USAGE,
        )
    return target_of(profile_for(device), compiler, gpu=gpu)
