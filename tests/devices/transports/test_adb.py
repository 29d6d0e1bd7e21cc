"""adb against a real adbd; and a stand-in for what no adbd does on request."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from plm_edge.devices import detect
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.adb import AdbTransport
from testkit.devices.adbd import Adbd
from testkit.devices.programs import HELLO, built


@pytest.mark.full
def test_a_program_for_arm_on_the_phone(phone: Adbd) -> None:
    with AdbTransport(phone.serial) as device:
        device.put(built(HELLO, "armv8-a"), "/data/local/tmp/plm-edge/hello", mode=0o755)
        done = device.run(["/data/local/tmp/plm-edge/hello", "a b"], env={"CODE": "5"})
    assert (done.text, done.exit_code) == ("hello\na b\n", 5)


@pytest.mark.full
def test_the_only_phone_needs_no_name(phone: Adbd) -> None:
    phone.adb("connect", phone.serial)
    device = AdbTransport()
    assert device.shell("echo here").text == "here\n"
    assert device.name == phone.serial


@pytest.mark.full
def test_a_phones_profile(phone: Adbd) -> None:
    with AdbTransport(phone.serial) as device:
        facts = device.facts()
    assert (facts.model, facts.cpu, facts.android) == ("Test Phone", "Loopback SoC", "14")
    found = detect.profile_of(facts, "mine", "adb", phone.serial)
    assert found.folder == "/data/local/tmp/plm-edge"
    assert found.title == "Test Phone"


@pytest.mark.full
def test_the_cable_is_pulled(phone: Adbd) -> None:
    with AdbTransport(phone.serial) as device:
        assert device.alive()
        # in a thread of its own: this one reads what comes
        cut = threading.Thread(target=phone.cut)
        with pytest.raises(failures.ConnectionLost):
            device.shell("echo begun; sleep 600", on_stdout=lambda _: cut.start())
        cut.join()
        assert device.shell("echo again").text == "again\n"


@pytest.mark.full
def test_the_cable_is_pulled_in_a_push(phone: Adbd, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(bytes(range(256)) * 64 * 1024)
    cuts: list[int] = []

    def cut(done: int, total: int) -> None:
        if done >= total // 2 and not cuts:
            cuts.append(done)
            phone.cut()

    with AdbTransport(phone.serial) as device:
        with pytest.raises(failures.ConnectionLost):
            device.put(source, "/data/local/tmp/model", progress=cut, attempts=1)
        steps: list[int] = []
        assert device.put(
            source, "/data/local/tmp/model", progress=lambda *step: steps.append(step[0])
        )
        assert steps[0] > 0
        assert device.get("/data/local/tmp/model", tmp_path / "back")
        device.shell("rm /data/local/tmp/model")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


@pytest.mark.full
def test_a_phones_disk_is_full(phone: Adbd, tmp_path: Path) -> None:
    source = tmp_path / "model"
    with source.open("wb") as file:
        file.truncate(80 * 2**20)  # the phone has 64 MiB
    with AdbTransport(phone.serial) as device, pytest.raises(failures.DiskFull):
        device.put(source, "/data/local/tmp/model")


@pytest.mark.full
def test_nobody_at_that_address(phone: Adbd) -> None:
    with pytest.raises(failures.Unreachable) as caught:
        AdbTransport("127.0.0.1:9").shell("true")
    assert "developer options" in caught.value.fix
    assert not AdbTransport("no-such-serial").alive()


def test_without_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(failures.Unreachable) as caught:
        AdbTransport().shell("true")
    assert "apt install adb" in caught.value.fix
    assert caught.value.code == 4


@pytest.mark.parametrize(
    ("listed", "serial", "error", "word"),
    [
        ("", None, failures.Unreachable, "no phone"),
        ("A1\tunauthorized", None, failures.NotAllowed, "unauthorized"),
        ("A1\toffline", "A1", failures.Unreachable, "offline"),
        ("A1\tdevice\nB2\tdevice", None, failures.DeviceError, "several"),
    ],
)
def test_what_adb_lists(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    listed: str,
    serial: str | None,
    error: type[failures.DeviceError],
    word: str,
) -> None:
    """States that the tests' phone cannot be brought into: a stand-in for adb lists them."""
    fake = tmp_path / "adb"
    fake.write_text(f"#!/bin/sh\nprintf '%s\\n' 'List of devices attached' '{listed}'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(error) as caught:
        AdbTransport(serial).shell("true")
    assert word in f"{caught.value.what} {caught.value.why}"
