"""Machines to reach: this one, one by ssh, one by adb, one that is emulated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.devices.profiles.profile import find
from plm_edge.devices.transports.adb import AdbTransport
from plm_edge.devices.transports.local import LocalTransport
from plm_edge.devices.transports.qemu import QemuTransport
from plm_edge.devices.transports.transport import Transport
from testkit import needs
from testkit.devices.adbd import Adbd
from testkit.devices.sshd import Sshd, ssh


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the person who runs the tests is read or written."""
    monkeypatch.setenv("PLM_EDGE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An ssh server that all tests share; whoever changes it starts one of their own."""
    made = Sshd(tmp_path_factory.mktemp("sshd")).start()
    yield made
    made.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Sshd]:
    made = Sshd(tmp_path / "sshd")
    yield made
    made.stop()


@pytest.fixture(scope="session")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adbd]:
    made = Adbd(tmp_path_factory.mktemp("adbd")).start()
    yield made
    made.stop()


@pytest.fixture
def phone(adb_server: Adbd, monkeypatch: pytest.MonkeyPatch) -> Adbd:
    """A phone that `adb` on the path reaches."""
    adb_server.on_path(monkeypatch)
    return adb_server


@pytest.fixture(
    params=[
        "local",
        pytest.param("ssh", marks=pytest.mark.slow),
        pytest.param("adb", marks=pytest.mark.full),
        pytest.param("qemu", marks=pytest.mark.slow),
    ]
)
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    """Any machine: what holds for one holds for all."""
    made: Transport
    if request.param == "ssh":
        made = ssh(request.getfixturevalue("server"))
    elif request.param == "adb":
        made = AdbTransport(request.getfixturevalue("phone").serial)
    elif request.param == "qemu":
        needs.program("qemu-aarch64")
        made = QemuTransport(find("rpi5"), tmp_path / "home")
    else:
        (tmp_path / "home").mkdir()
        made = LocalTransport(tmp_path / "home")
    with made:
        yield made
