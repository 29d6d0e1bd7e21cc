"""A loopback "Pi" behind a real sshd, the engine for it, and plm-edge as a person calls it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from plm_edge.building.cache import KeptBuild
from plm_edge.deploy import install
from plm_edge.deploy.device_engine import parts
from plm_edge.deploy.install import DeployResult
from plm_edge.devices import connect
from plm_edge.devices.connect import OpenDevice
from testkit import engines
from testkit.checkout import ROOT
from testkit.cli import Cli
from testkit.devices.sshd import Sshd, ssh
from testkit.engines import ENGINES

FOLDER = ".local/share/plm-edge"
SURE = "1, 2, 3, 4, 5, 6,"  # tiny-plm prefers each of its next tokens by more than half a nat


@pytest.fixture(scope="session")
def engine() -> KeptBuild:
    """The engine for a Raspberry Pi 5, built by zig unless it was before."""
    return engines.engine("rpi5")


@dataclass
class Pi:
    """A machine that runs programs for aarch64, and plm-edge here, which knows it as `pi`."""

    server: Sshd
    cli: Cli
    engine: KeptBuild

    @property
    def folder(self) -> Path:
        return self.server.home / FOLDER

    @property
    def size(self) -> int:
        """Bytes of the engine that go there."""
        return sum(item.size for item in parts(self.engine))

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    def deploy(self, model: Path) -> dict[str, Any]:
        done = self.cli("deploy", model, "--device", "pi", "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def opened(self) -> OpenDevice:
        """For a test that calls the functions itself."""
        return OpenDevice("pi", connect.describe("rpi5")[0], ssh(self.server), "pi")

    def deploy_here(self, model: Path, progress: install.Progress) -> DeployResult:
        """Deploy in this process, told of its progress; one attempt at a broken connection."""
        opened = self.opened()
        with opened.transport as transport:
            facts = transport.facts()
            return install.deploy(
                opened, self.engine, model, facts, progress=progress, step=lambda text: None
            )

    def running(self) -> list[psutil.Process]:
        """Servers of this machine's that run now."""
        found = []
        for process in psutil.process_iter():
            try:
                # this very machine's: others may be tested at the same time
                if any("llama-server" in word for word in process.cmdline()) and str(
                    self.server.home
                ) in process.environ().get("HOME", ""):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def programs(self) -> list[psutil.Process]:
        """Those of them that are the program itself, no shell around it."""
        return [found for found in self.running() if "sh" not in found.cmdline()[0]]

    def ends(self, seconds: float = 60) -> bool:
        """Whether every server there ends in this time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not self.programs():
                return True
            time.sleep(0.2)
        return False


def made(folder: Path, cli: Cli, engine: KeptBuild) -> Pi:
    """A Pi that listens; plm-edge finds it by the user's own ssh settings."""
    server = Sshd(folder / "sshd").start(arm=True)
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").symlink_to(server.config)
    env = {
        **cli.env,
        "HOME": str(home),
        "PLM_EDGE_CONFIG_DIR": str(home / "config"),
        "PLM_EDGE_CACHE_DIR": str(ENGINES),
        "PLM_EDGE_DATA_DIR": str(home / "data"),
    }
    pi = Pi(server, Cli(env, cli.command), engine)
    pi.cli("devices", "add", "pi", "--profile", "rpi5", "--host", "pi")
    return pi


@pytest.fixture
def pi(tmp_path: Path, engine: KeptBuild) -> Iterator[Pi]:
    """A Pi with nothing on it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = made(tmp_path, Cli(env), engine)
    yield found
    found.server.stop()


@pytest.fixture(scope="module")
def ready(
    tmp_path_factory: pytest.TempPathFactory, engine: KeptBuild, tiny_gguf: Path
) -> Iterator[Pi]:
    """A Pi with tiny-plm deployed; its tests leave that as it is."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = made(tmp_path_factory.mktemp("pi"), Cli(env), engine)
    found.deploy(tiny_gguf)
    yield found
    found.server.stop()
