"""What the commands about models do while a server runs one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit.cli import Cli
from tests.store.hub import NAME

# The room of servers, as far as these commands ask it.
ROOM = """
import sys, types
room = types.ModuleType("plm_edge.serve.running")
one = types.SimpleNamespace(
    pid=7, port=7560, url="http://127.0.0.1:7560", model=MODEL, device="", name="m"
)
room.servers = lambda: [one]
sys.modules["plm_edge.serve.running"] = room
"""


@pytest.fixture
def served(cli: Cli, tmp_path: Path) -> Path:
    """A pulled model that a server runs, by another name for its folder."""
    cli("pull", NAME)
    path = tmp_path / f"data/models/{NAME}/small-Q4_K_M.gguf"
    (tmp_path / "link").symlink_to(path.parent)
    room = ROOM.replace("MODEL", repr(str(tmp_path / "link" / path.name)))
    cli.command[-1] = room + cli.command[-1]
    return path


def test_rm_refuses_its_model(cli: Cli, served: Path) -> None:
    what, why, fix = cli.fails("rm", f"{NAME}:Q4_K_M", "--yes", code=3)
    assert "a server runs" in what
    assert "port 7560, as process 7" in why
    assert "plm-edge stop 7560" in fix
    assert served.exists()
    cli("pull", f"{NAME}:Q8_0")
    cli("rm", f"{NAME}:Q8_0", "--yes")
    cli("rm", f"{NAME}:Q4_K_M", "--yes", "--force")
    assert not served.exists()


def test_uninstall_refuses(cli: Cli, served: Path) -> None:
    assert "plm-edge stop" in cli.fails("uninstall", "--yes", code=3)[2]
    assert served.exists()


def test_alone_names_it(cli: Cli, served: Path) -> None:
    assert "http://127.0.0.1:7560 (small-Q4_K_M)" in cli().stdout
