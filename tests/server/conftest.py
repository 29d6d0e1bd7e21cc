"""The real llama-server, as `deploy` puts it on a Raspberry Pi 5."""

from __future__ import annotations

import pytest

from plm_edge.devices.profiles.profile import find
from plm_edge.devices.transports.qemu import QemuTransport
from testkit import engines, needs


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that run it here."""
    needs.program("qemu-aarch64")
    program = engines.engine("rpi5").programs / "llama-server"
    return QemuTransport(find("rpi5"), tmp_path_factory.mktemp("pi")).program([str(program)])
