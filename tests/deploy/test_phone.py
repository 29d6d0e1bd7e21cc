"""Deploying by adb to a real adbd in namespaces of its own, and under qemu's emulation here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.building.cache import KeptBuild
from plm_edge.deploy.device_engine import parts
from testkit.checkout import ROOT
from testkit.cli import Cli
from testkit.devices.adbd import Adbd
from testkit.engines import ENGINES
from tests.deploy.conftest import SURE

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("pi")]
ASKED = ("-p", SURE, "-n", "8", "--temp", "0", "-q")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    env = {
        **os.environ, "PYTHONPATH": str(ROOT), "PLM_EDGE_CACHE_DIR": str(ENGINES),
        "PLM_EDGE_CONFIG_DIR": str(tmp_path / "config"),
        "PLM_EDGE_DATA_DIR": str(tmp_path / "data"),
    }  # fmt: skip
    return Cli(env)


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Adbd]:
    folder = tmp_path / "adbd"
    folder.mkdir()
    made = Adbd(folder).start()
    yield made
    made.stop()


def test_a_phone(phone: Adbd, cli: Cli, engine: KeptBuild, tiny_gguf: Path, tmp_path: Path) -> None:
    """The phone runs the Pi's engine: as its own would, which takes five minutes more to build."""
    on_its_net = Cli({**cli.env, "HOME": str(phone.folder)}, [*phone.enter, *cli.command])
    cli("devices", "add", "phone", "--profile", "android-arm64", "--host", phone.serial)
    size = sum(item.size for item in parts(engine))
    engine_at = ("--engine", engine.folder)
    sent = on_its_net("deploy", tiny_gguf, "--device", "phone", *engine_at, "--json")
    first = json.loads(sent.stdout)
    assert first["bytes_sent"] == size + tiny_gguf.stat().st_size
    assert len(first["manifest"]["models"]) == 1
    again = on_its_net("deploy", tiny_gguf, "--device", "phone", *engine_at, "--json")
    assert json.loads(again.stdout)["bytes_sent"] == 0
    there = on_its_net("run", "--device", "phone", *ASKED).stdout
    assert there == cli("run", tiny_gguf, "--threads", "1", *ASKED).stdout
    assert there.strip()
    # what is there can be taken back
    found = json.loads(sent.stdout)["manifest"]["engine"]["files"][0]
    phone.adb("pull", f"/data/local/tmp/plm-edge/{found['path']}", str(tmp_path / "back"))
    assert (tmp_path / "back").stat().st_size == found["size"]
    what, _, _ = on_its_net.fails(
        "run", "--device", "phone", "-p", "one two " * 300, "--ctx", "256", code=3
    )
    assert what == "the prompt does not fit the context"
    cleaned = json.loads(on_its_net("devices", "clean", "phone", "--json").stdout)
    assert len(cleaned["removed"]) == len(parts(engine)) + 2
    assert "plm-edge" not in phone.adb("-s", phone.serial, "shell", "ls", "/data/local/tmp")
    running = phone.adb("-s", phone.serial, "shell", "cat /proc/[0-9]*/cmdline")
    assert "llama-server\0--model" not in running


def test_emulated(cli: Cli, engine: KeptBuild, tiny_gguf: Path, tmp_path: Path) -> None:
    cli.env["PLM_EDGE_CACHE_DIR"] = str(tmp_path / "cache")
    where = ("--device", "rpi5", "--emulate")
    _, _, fix = cli.fails("run", *where, "-p", "x", code=3)
    assert "plm-edge deploy --device rpi5 --emulate" in fix
    deployed = cli("deploy", tiny_gguf, *where, "--engine", engine.folder)
    assert "next: plm-edge run --device rpi5 --emulate --prompt" in deployed.stderr
    asked = (*ASKED, "--threads", "1")
    there = cli("run", *where, *asked).stdout
    assert there == cli("run", tiny_gguf, *asked).stdout
    cli("devices", "clean", "rpi5", "--emulate")
    assert not [path for path in (tmp_path / "cache/emulated").rglob("*") if path.is_file()]
