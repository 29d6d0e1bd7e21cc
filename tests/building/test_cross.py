"""Engines for other CPUs by zig, run under qemu with the CPU of their profile.

For each the probe generates (testkit/engines.py builds it); the kernels have tests of their own
for these CPUs (tests/kernels).
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench.worker.client import encode, greedy_request
from plm_edge.building.fits import require_fits
from plm_edge.devices.profiles.profile import find
from plm_edge.engine.greedy import greedy
from plm_edge.engine.session import Session
from testkit.engines import PROBE, engine

DEVICES = ("rpi5", "rpi4", "android-arm64")
PROMPTS = ("1, 2, 3, 4, 5, 6,", "import os\nimport sys\nimport json\nimport")
COUNT, CLEAR = 24, 0.5  # tokens; nats
TIME = 1800  # seconds; emulated, beside other tests

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("cross")]


def run(
    device: str, program: Path, *arguments: object, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    emulator = find(device).emulator
    assert emulator is not None
    # glibc's programs find its loader there; musl's carry all they need
    prefix = [emulator[0], "-L", "/usr/aarch64-linux-gnu", "-cpu", emulator[1]]
    command = [*prefix, str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, input=stdin, timeout=TIME)


@pytest.mark.parametrize("device", DEVICES)
def test_greedy_tokens_equal_this_machines(device: str, tiny_gguf: Path) -> None:
    """After prompts where each token leads by CLEAR: rounding, which differs, decides near ties."""
    for text in PROMPTS:
        with Session.open(tiny_gguf) as session:
            prompt = session.tokenize(text)
            steps = greedy(session, prompt, COUNT)
        assert min(step.margin for step in steps) > CLEAR
        assert len(steps) == COUNT
        request = greedy_request(str(tiny_gguf), prompt, COUNT)
        found = run(device, engine(device).programs / PROBE, stdin=encode([request]))
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["tokens"] == [step.token for step in steps]


@pytest.mark.parametrize("device", DEVICES)
def test_it_holds_what_the_device_has(device: str) -> None:
    profile, made = find(device), engine(device).manifest
    assert made.checked == "read"
    assert set(made.requires) <= set(profile.features)
    assert ("asimddp" in made.requires) == (device != "rpi4")
    assert bool(made.glibc) == (device != "android-arm64")


def test_a_build_for_a76_on_a72(tiny_gguf: Path) -> None:
    """Refused by its manifest; and what would happen, were it not."""
    profile, made = find("rpi4"), engine("rpi5")
    with pytest.raises(PlmEdgeError, match="dotprod"):
        require_fits(made.manifest, "rpi4", profile.arch, profile.features)
    request = greedy_request(str(tiny_gguf), [1, 5, 9], COUNT)
    done = run("rpi4", made.programs / PROBE, stdin=encode([request]))
    assert done.returncode == -signal.SIGILL
