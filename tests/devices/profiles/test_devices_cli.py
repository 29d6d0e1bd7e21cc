"""`plm-edge devices`, as a person calls it."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from plm_edge.devices.profiles import profile
from testkit.cli import Cli
from testkit.devices.sshd import Sshd

pytestmark = pytest.mark.usefixtures("config")


def test_the_list(cli: Cli) -> None:
    text = cli("devices").stdout
    for name in ("rpi5", "oneplus12", "h200", "x86-64-v3"):
        assert f"\n{name} " in text
    assert "17.1 GB/s" in text
    data = json.loads(cli("devices", "--json").stdout)
    assert data["schema"] == "plm-edge/devices-list/1"
    found = {item["name"]: item for item in data["profiles"]}
    assert found["rpi5"]["cores"] == 4
    assert found["rpi5"]["bandwidth"] == {
        "value": 17.1,
        "unit": "GB/s",
        "source": "launch",
        "how": "4267 MT/s x 32 bit",
    }
    assert found["host"]["arch"] == platform.machine()
    assert data["devices"] == []


def test_one_is_explained(cli: Cli) -> None:
    text = cli("devices", "show", "rpi5").stdout
    assert "4 x Cortex-A76 at 2.4 GHz" in text
    assert "vcgencmd get_throttled" in text
    assert "arm-socs-table" in text
    data = json.loads(cli("devices", "show", "oneplus12", "--json").stdout)
    assert data["schema"] == "plm-edge/device-details/1"
    assert data["origin"] == "built-in"
    assert len(data["profile"]["cpu"]["clusters"]) == 4
    assert "This machine" in cli("devices", "show", "host").stdout


def test_one_that_is_not_there(cli: Cli) -> None:
    what, why, fix = cli.fails("devices", "show", "rpi55", code=3)
    assert "rpi55" in what
    assert "rpi4" in why
    assert fix == "did you mean rpi5?"


def test_this_machine_is_detected(cli: Cli, tmp_path: Path, config: Path) -> None:
    text = cli("devices", "detect").stdout
    assert f'arch = "{platform.machine()}"' in text
    out = tmp_path / "deep/mine.toml"
    assert cli("devices", "detect", "--out", out).stdout == ""
    assert profile.load(out).name == "mine"
    data = json.loads(cli("devices", "detect", "--save", "--name", "My PC", "--json").stdout)
    assert data["schema"] == "plm-edge/device-detected/1"
    assert Path(data["path"]) == config / "devices/my-pc.toml"
    assert data["facts"]["machine"] == platform.machine()
    listed = json.loads(cli("devices", "--json").stdout)["profiles"]
    assert {"my-pc": "user", "rpi5": "built-in"}.items() <= {
        item["name"]: item["origin"] for item in listed
    }.items()
    assert len(cli.fails("devices", "detect", "--save", "--out", out, code=2)) == 3


def test_a_profile_of_ones_own_replaces_the_built_in(cli: Cli, config: Path) -> None:
    mine = config / "devices/rpi5.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text(cli("devices", "show", "rpi5", "--toml").stdout.replace("2.4", "3"))
    assert "4 x Cortex-A76 at 3 GHz" in cli("devices", "show", "rpi5").stdout
    assert str(mine) in cli("devices", "show", "rpi5").stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = ", "it is no TOML"),
        ('name = "mine"', "schema is missing"),
        (None, "'elsewhere' is used, and [sources] does not explain it"),
    ],
)
def test_a_broken_profile_of_ones_own(cli: Cli, config: Path, text: str | None, told: str) -> None:
    mine = config / "devices/mine.toml"
    mine.parent.mkdir(parents=True)
    good = cli("devices", "show", "rpi5", "--toml").stdout.replace('"rpi5"', '"mine"', 1)
    mine.write_text(text or good.replace('source = "cpuinfo"', 'source = "elsewhere"'))
    what, why, _ = cli.fails("devices", "show", "mine", code=3)
    assert str(mine) in what
    assert told in why
    done = cli("devices")  # the others are still listed
    assert "rpi5" in done.stdout
    assert told in done.stderr


def test_a_device_is_remembered_and_forgotten(cli: Cli, config: Path) -> None:
    done = cli("devices", "add", "kitchen", "--profile", "rpi5", "--host", "pi@raspberrypi.local")
    assert done.stdout == ""
    assert "added: kitchen" in done.stderr
    assert json.loads((config / "devices.json").read_text()) == {
        "schema": "plm-edge/devices/1",
        "devices": {
            "kitchen": {"profile": "rpi5", "transport": "ssh", "host": "pi@raspberrypi.local"}
        },
    }
    assert "kitchen" in cli("devices").stdout
    assert "pi@raspberrypi.local" in cli("devices", "show", "kitchen").stdout
    arguments = ("devices", "add", "kitchen", "--profile", "rpi4", "--host", "pi", "--json")
    data = json.loads(cli(*arguments).stdout)
    assert (data["schema"], data["change"]) == ("plm-edge/device-changed/1", "replaced")
    cli("devices", "remove", "kitchen")
    assert json.loads(cli("devices", "--json").stdout)["devices"] == []
    assert "kitchen" in cli.fails("devices", "remove", "kitchen", code=3)[0]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["x", "--profile", "rpi5"], 2, "address"),
        (["x", "--profile", "rpi6", "--host", "pi"], 3, "rpi6"),
        (["x", "--profile", "host", "--host", "pi"], 2, "this machine"),
        (["a b", "--profile", "rpi5", "--host", "pi"], 2, "a b"),
        (["x", "--profile", "rpi5", "--host", "a b"], 3, "ssh address"),
        (["x", "--profile", "rpi5", "--host", "pi", "--transport", "telnet"], 2, "telnet"),
    ],
)
def test_what_cannot_be_added(cli: Cli, arguments: list[str], code: int, word: str) -> None:
    assert word in cli.fails("devices", "add", *arguments, code=code)[0]


def test_a_damaged_list_is_never_overwritten(cli: Cli, config: Path) -> None:
    config.mkdir()
    (config / "devices.json").write_text("{")
    for arguments in (["add", "x", "--profile", "host"], ["remove", "x"], []):
        assert "cannot be read" in cli.fails("devices", *arguments, code=4)[0]
    assert (config / "devices.json").read_text() == "{"


@pytest.fixture
def pi(cli: Cli, tmp_path: Path) -> Sshd:
    """An ssh server that the command reaches as "pi"."""
    server = Sshd(tmp_path / "sshd").start()
    home = tmp_path / "person"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").write_text(server.config.read_text())
    cli.env["HOME"] = str(home)
    return server


def test_a_machine_far_away(cli: Cli, pi: Sshd) -> None:
    try:
        data = json.loads(cli("devices", "detect", "--host", "pi", "--json").stdout)
        assert data["profile"]["transport"]["kind"] == "ssh"
        assert data["facts"]["machine"] == platform.machine()
        cli("devices", "detect", "--host", "pi", "--save", "--name", "own")
        cli("devices", "add", "near", "--profile", "own", "--host", "pi", "--check")
        what, why, fix = cli.fails(
            "devices", "add", "far", "--profile", "rpi5", "--host", "pi", "--check", code=4
        )
        assert "far is no rpi5" in what
        assert platform.machine() in why
        assert "detect" in fix
    finally:
        pi.stop()
    what, why, fix = cli.fails("devices", "detect", "--host", "pi", code=6)
    assert "pi cannot be reached" in what
    assert "refused" in why
    assert "ssh pi" in fix
