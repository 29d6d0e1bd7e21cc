"""Emulated devices: real programs for aarch64, under the CPU model of a profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.devices.profiles.profile import Profile, find
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.local import LocalTransport
from plm_edge.devices.transports.qemu import QemuTransport
from testkit import needs
from testkit.devices.programs import DOT, HELLO, built

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _emulator() -> None:
    needs.program("qemu-aarch64")


def test_a_dot_product_runs_on_a_pi_5_and_not_on_a_pi_4(tmp_path: Path) -> None:
    program = built(DOT, "armv8.2-a+dotprod")
    with QemuTransport(find("rpi5"), tmp_path / "5") as device:
        device.put(program, "dot", mode=0o755)
        assert device.run(["./dot"], check=True).text == "240\n"
    with QemuTransport(find("rpi4"), tmp_path / "4") as device:
        device.put(program, "dot", mode=0o755)
        with pytest.raises(failures.IllegalInstruction) as caught:
            device.run(["./dot"], check=True)
    assert "rpi4" in caught.value.what


def test_a_program_for_arm_does_not_run_here(tmp_path: Path) -> None:
    # sh's words for it, whatever registers qemu with this kernel
    device = LocalTransport(tmp_path)
    device.put(built(HELLO, "armv8-a"), "hello", mode=0o755)
    done = device.run(["./hello"])
    if done.exit_code != 0:
        assert isinstance(device.failure(done), failures.WrongArchitecture)


def test_emulated_facts_are_the_devices(tmp_path: Path) -> None:
    with QemuTransport(find("rpi5"), tmp_path) as device:
        facts = device.facts()
    assert facts.machine == "aarch64"
    assert "asimddp" in facts.features
    assert facts.groups[0].core == "Cortex-A76"
    assert "emulated" in facts.cpu
    assert "emulated" in device.name


def test_what_cannot_be_emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlmEdgeError, match="cannot be emulated"):
        QemuTransport(find("x86-64-v4"), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlmEdgeError, match="qemu-aarch64 is not installed"):
        QemuTransport(find("rpi5"), tmp_path)


@pytest.mark.parametrize("name", ["rpi5", "rpi4", "oneplus12", "jetson-orin-nano", "android-arm64"])
def test_the_emulator_knows_the_profiles_cpu(name: str, tmp_path: Path) -> None:
    profile: Profile = find(name)
    with QemuTransport(profile, tmp_path) as device:
        device.put(built(HELLO, "armv8-a"), "hello", mode=0o755)
        assert device.run(["./hello"], check=True).text == "hello\n"
