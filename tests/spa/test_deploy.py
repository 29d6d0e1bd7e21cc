"""A plugin on a device behind a real sshd, whose Python has numpy and nothing else of ours."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest

from plm_edge.base import console
from plm_edge.spa import packing
from plm_edge.spa.deploying import MANIFEST
from plm_edge.spa.server import SpaServer
from testkit.checkout import ROOT
from testkit.cli import Cli
from testkit.devices.sshd import Sshd
from tests.spa.links import OWN
from tests.spa.serving import KEY

FOLDER = ".local/share/plm-edge"


@dataclass
class Pi:
    """A device, and plm-edge here, which knows it as `pi`."""

    home: Path
    cli: Cli
    plugin: Path

    @property
    def folder(self) -> Path:
        return self.home / FOLDER

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def _python(home: Path, folder: Path, *, with_numpy: bool) -> None:
    """As on a device: Python with the system's packages, of which numpy is one."""
    packages = folder / "packages"
    packages.mkdir(exist_ok=True)
    for path in Path(numpy.__file__).parents[1].glob("numpy*"):
        (packages / path.name).unlink(missing_ok=True)
        if with_numpy and path.name in ("numpy", "numpy.libs"):
            (packages / path.name).symlink_to(path)
    program = home / "bin" / "python3"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} -S "$@"\n')
    program.chmod(0o755)


@pytest.fixture
def pi(tmp_path: Path) -> Iterator[Pi]:
    server = Sshd(tmp_path / "sshd").start(arm=True)
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").symlink_to(server.config)
    env = {
        **os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home), "PLM_EDGE_API_KEY": KEY,
        "PLM_EDGE_CONFIG_DIR": str(home / "config"), "PLM_EDGE_DATA_DIR": str(home / "data"),
    }  # fmt: skip
    _python(server.home, tmp_path, with_numpy=True)
    plugin = tmp_path / "plugin.gguf"
    OWN.write(plugin)
    made = Pi(server.home, Cli(env), plugin)
    made.cli("devices", "add", "pi", "--profile", "rpi5", "--host", "pi")
    yield made
    server.stop()


def test_a_plugin_runs_there(pi: Pi, server: SpaServer) -> None:
    done = json.loads(pi.cli("deploy", pi.plugin, "--device", "pi", "--json").stdout)
    assert done["schema"] == "plm-edge/deploy-plugin/1"
    assert len(done["sent"]) == 2
    assert done["plugin"]["numpy"] == numpy.__version__
    plugin = pi.folder / done["plugin"]["path"]
    assert plugin.read_bytes() == pi.plugin.read_bytes()
    assert plugin.stat().st_mode & 0o077 == 0
    run = ("spa", "run", "--device", "pi", "--server", f"ws://127.0.0.1:{server.port}", "-n", "24",
           "-p", "a prompt")  # fmt: skip
    found = json.loads(pi.cli(*run, "--plugin", pi.plugin, "--json").stdout)
    here = json.loads(pi.cli(*run[:2], *run[4:], "--plugin", pi.plugin, "--json").stdout)
    for name in ("schema", "text", "tokens", "prompt_tokens", "overrides", "mode"):
        assert found[name] == here[name], name
    # As on a Pi Zero: Python, numpy, and what it computes with.
    assert found["peak_rss_bytes"] < 100 * 2**20
    streamed = pi.cli(*run)
    assert streamed.stdout == console.printable(found["text"]) + "\n"
    assert "plugin.gguf (deployed on pi last)" in streamed.stderr
    # Sent once; all of it goes with `devices clean`.
    again = json.loads(pi.cli("deploy", pi.plugin, "--device", "pi", "--json").stdout)
    assert not again["sent"]
    assert again["plugin"] == done["plugin"]
    pi.cli("devices", "clean", "pi")
    assert not pi.files()


@pytest.mark.full
def test_what_is_refused(pi: Pi, server: SpaServer, tmp_path: Path) -> None:
    run = ("spa", "run", "--device", "pi", "--server", f"ws://127.0.0.1:{server.port}", "-p", "x")
    said = pi.cli(*run, code=None).stderr
    assert "a plugin is not on pi" in said
    assert "plm-edge deploy PLUGIN --device pi" in said
    assert "leave --engine and --emulate out" in pi.cli(
        "deploy", pi.plugin, "--device", "pi", "--engine", tmp_path, code=2
    ).stderr  # fmt: skip
    pi.cli("deploy", pi.plugin, "--device", "pi")
    pi.cli.env["PLM_EDGE_API_KEY"] = "another"
    refused = pi.cli(*run, code=6)
    assert "the server refuses the key" in refused.stderr
    assert pi.cli(*run, "--mode", "local", code=None).returncode == 2
    # A file that was changed there since.
    [plugin] = (path for path in pi.files() if path.name == "plugin.gguf")
    plugin.write_bytes(plugin.read_bytes()[:-4096])
    assert pi.cli(*run, code=None).returncode
    _python(pi.home, tmp_path, with_numpy=False)
    said = pi.cli("deploy", pi.plugin, "--device", "pi", code=6).stderr
    assert "has no numpy" in said
    assert "apt install python3-numpy" in said


def test_another_choice_there_is_no_deployment(pi: Pi) -> None:
    """A Python that computes otherwise, and one that fails; what is there already is in no list, as
    where the link was lost before it could be taken away."""
    pi.cli("deploy", pi.plugin, "--device", "pi")
    (pi.folder / MANIFEST).unlink()
    said = json.dumps({"proof": [0] * 16, "python": "3.11", "numpy": "2"})
    program = pi.home / "bin" / "python3"
    for does, what in (
        (f"echo '{said}'", "plugin.gguf on pi chooses other tokens than here"),
        ("exit 3", "pi"),
    ):
        program.write_text(f"#!/bin/sh\n[ $1 = -c ] && echo 3 11 2.0.0 || {does}\n")
        assert what in pi.cli("deploy", pi.plugin, "--device", "pi", code=6).stderr
        left = (MANIFEST, "plugin.gguf", "client.pyz")
        assert not [path for path in pi.files() if path.name in left]


def test_the_client_is_the_same_file_each_time() -> None:
    made = packing.client()
    assert made == packing.client()
    assert len(made) < 2**20
