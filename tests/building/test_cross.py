"""Engines for other CPUs by zig, run under qemu with the CPU of their profile.

The first run compiles them (build/test-cache keeps them): rpi5's whole engine, since deploying
needs it, and of the others the probe and the kernels' tests.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plm_edge.building import build
from plm_edge.building.cache import Kept
from plm_edge.building.fits import require_fits
from plm_edge.building.target import target_of
from plm_edge.errors import PlmEdgeError
from plm_edge.fleet.profile import find

KERNELS = ("test-plm-sparse-t", "test-plm-mla")
FEW = ("plm-edge-probe", *KERNELS)
DEVICES = ("rpi5", "rpi4", "android-arm64")
PROMPT = ("1", "5", "9", "20", "33")
COUNT = "24"
TIME = 1200  # seconds; emulated, beside other tests

pytestmark = [pytest.mark.usefixtures("kept_engines"), pytest.mark.xdist_group("cross")]


def engine(device: str, programs: tuple[str, ...]) -> Kept:
    return build.build(target_of(find(device)), programs)[0]


def probing(device: str) -> Kept:
    return engine(device, build.PROGRAMS if device == "rpi5" else FEW)


def run(device: str, program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    emulator = find(device).emulator
    assert emulator is not None
    # glibc's programs find its loader there; musl's carry all they need
    prefix = [emulator[0], "-L", "/usr/aarch64-linux-gnu", "-cpu", emulator[1]]
    command = [*prefix, str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIME)


@pytest.mark.parametrize("device", DEVICES)
def test_greedy_tokens_equal_this_machines(device: str, tiny_gguf: Path) -> None:
    here = engine("x86-64-v2", ("plm-edge-probe",)).programs / "plm-edge-probe"
    wanted = subprocess.run([here, tiny_gguf, COUNT, "1", *PROMPT], capture_output=True, text=True)
    assert wanted.returncode == 0, wanted.stderr
    tokens = wanted.stdout.split()
    assert tokens
    found = run(device, probing(device).programs / "plm-edge-probe", tiny_gguf, COUNT, "1", *PROMPT)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == tokens


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("program", KERNELS)
def test_kernels_against_the_scalar_reference(device: str, program: str) -> None:
    programs = engine(device, KERNELS if device == "rpi5" else FEW).programs
    done = run(device, programs / program, "--quick")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


@pytest.mark.parametrize("device", DEVICES)
def test_it_holds_what_the_device_has(device: str) -> None:
    profile, made = find(device), probing(device).manifest
    assert set(made.requires) <= set(profile.features)
    assert ("asimddp" in made.requires) == (device != "rpi4")
    assert bool(made.glibc) == (device != "android-arm64")
    assert all(item.size < 16 * 2**20 for item in made.files)


def test_a_build_for_a76_on_a72(tiny_gguf: Path) -> None:
    """Refused by its manifest; and what would happen, were it not."""
    profile, made = find("rpi4"), probing("rpi5")
    with pytest.raises(PlmEdgeError, match="dotprod"):
        require_fits(made.manifest, "rpi4", profile.arch, profile.features)
    done = run("rpi4", made.programs / "plm-edge-probe", tiny_gguf, COUNT, "1", *PROMPT)
    assert done.returncode == -4  # SIGILL
