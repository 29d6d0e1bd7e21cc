"""A target says what to build for a device: compiler, CPU, linkage and cmake's settings."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building.march import gcc_march, x86_settings
from plm_edge.devices.profiles.profile import Profile

COMPILERS = ("zig", "gcc")
BACKENDS = {"cuda": "GGML_CUDA", "vulkan": "GGML_VULKAN", "metal": "GGML_METAL"}
_SYSTEMS = {"linux": "Linux", "macos": "Darwin"}


@dataclass(frozen=True)
class Target:
    """One build of the engine.

    `arch` and `system` are named as by uname, `triple` and `cpu` as by zig, `features` (what every
    core of the device has) as by Linux. `kernels` is "fixed" (compiled for `cpu`), "native" (for
    this very machine) or "chosen" (one CPU library a level, of which the engine loads one when it
    starts). `backend` is cuda, vulkan, metal, or empty. `settings` are cmake's, without those that
    depend on paths.
    """

    device: str
    arch: str
    system: str
    triple: str
    cpu: str
    features: frozenset[str]
    linkage: str
    compiler: str
    kernels: str
    backend: str
    settings: tuple[tuple[str, str], ...]

    @property
    def shared(self) -> bool:
        """Whether the engine is a shared library beside its programs."""
        return self.linkage == "shared"

    @property
    def glibc(self) -> str:
        """The oldest glibc that zig links for, such as 2.36; empty if the target has none."""
        return self.triple.partition("-gnu.")[2]

    @property
    def here(self) -> bool:
        """Whether this machine can run its programs, by architecture and system."""
        return self.arch == machine() and self.system == platform.system()


def machine() -> str:
    """This machine's architecture, as profiles name it."""
    found = platform.machine().lower()
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(found, found)


def target_of(profile: Profile, compiler: str | None = None, *, gpu: bool | str = True) -> Target:
    """The build that a profile asks for.

    Args:
        profile: a device's. The host's must have been detected (`detect.profile_by_name`).
        compiler: "zig" or "gcc". None takes zig for a static build, else the system's compiler.
        gpu: False leaves the profile's GPU backend out; a name of BACKENDS takes that one.

    Raises:
        PlmEdgeError: the compiler cannot make what the profile asks for.
    """
    build, host = profile.section("build"), profile.detected or profile.name == "host"
    named = gpu if isinstance(gpu, str) else ""
    backend = named or (str(profile.section("gpu").get("backend", "")) if gpu else "")
    static = build["linkage"] == "static" or (not gpu and not host)
    if named and static and not host:
        raise PlmEdgeError(
            f"an engine for {profile.name} cannot have a GPU's backend",
            "its programs carry all they need, and a backend needs the libraries of its driver",
            "build it on the device itself: plm-edge engine build --device host",
            ExitCode.USAGE,
        )
    family = profile.arch == "x86_64" and not profile.clusters and compiler == "gcc"
    shared = host or family or not static
    compiler = compiler or ("gcc" if shared else "zig")
    if shared and compiler == "zig":
        raise PlmEdgeError(
            f"zig cannot build the engine for {profile.name}",
            "its libraries are shared, and each that zig links has a C++ library of its own",
            "leave --compiler out, or build programs for the CPU alone: --no-gpu",
        )
    triple = str(build["triple"])
    system = _SYSTEMS.get(triple.split("-")[1], "")
    if host:
        kernels = "native"
    else:
        kernels = "chosen" if shared and profile.arch == "x86_64" and system == "Linux" else "fixed"
    features = frozenset(profile.features)
    settings = _settings(profile, shared, kernels, compiler, backend, system)
    return Target(
        device=profile.name, arch=profile.arch, system=system, triple=triple,
        cpu=str(build["cpu"]), features=features, linkage="shared" if shared else "static",
        compiler=compiler, kernels=kernels, backend=backend,
        settings=tuple(sorted(settings.items())),
    )  # fmt: skip


def _settings(
    profile: Profile, shared: bool, kernels: str, compiler: str, backend: str, system: str
) -> dict[str, str]:
    """cmake's settings. The profile's flags override what follows from its features."""
    found = {
        "CMAKE_BUILD_TYPE": "Release",
        "PLM_EDGE_NATIVE": "ON" if kernels == "native" else "OFF",
    }
    features = set(profile.features)
    if kernels == "chosen":
        found |= {"GGML_BACKEND_DL": "ON", "GGML_CPU_ALL_VARIANTS": "ON"}
    elif kernels == "fixed" and profile.arch == "x86_64":
        found |= x86_settings(features)
    elif kernels == "fixed" and compiler == "gcc":
        # zig takes the CPU from -mcpu, and refuses -march.
        found["GGML_CPU_ARM_ARCH"] = gcc_march(profile.arch, features)
    flags = profile.section("build").get("flags", ())
    found |= dict(flag.removeprefix("-D").split("=", 1) for flag in flags)
    found.pop("GGML_NATIVE", None)  # PLM_EDGE_NATIVE decides
    for name, setting in BACKENDS.items():
        if name == backend:
            found[setting] = "ON"
        else:
            found.pop(setting, None)
    if backend != "cuda":
        found.pop("CMAKE_CUDA_ARCHITECTURES", None)
    elif kernels != "native":
        found["GGML_CUDA_NO_VMM"] = (
            "ON"  # libcuda.so comes with the driver, which the builder may lack
        )
    if system == "Darwin" and backend != "metal":
        found["GGML_METAL"] = "OFF"  # on by itself there
    found["BUILD_SHARED_LIBS"] = "ON" if shared else "OFF"
    return found


def require_buildable(target: Target) -> None:
    """Refuse a target that this machine cannot build.

    Raises:
        PlmEdgeError: the target is a Mac and this is none, or its system is unknown.
    """
    if target.system == "Darwin" and not target.here:
        raise PlmEdgeError(
            f"the engine for {target.device} cannot be built here",
            f"it needs Apple's tools, and this is {platform.system()}",
            f"run `plm-edge engine build --device {target.device}` on the Mac itself",
            ExitCode.ENVIRONMENT,
        )
    if not target.system:
        raise PlmEdgeError(
            f"the engine for {target.device} cannot be built",
            f"the profile's triple {target.triple!r} is neither Linux nor macOS",
            "mend [build] triple in the profile",
        )
