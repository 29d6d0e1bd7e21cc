"""Which devices carry something of ours is known from the first deployment until they are clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.deploy.conftest import Pi

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("pi")]


def test_from_deploy_to_clean(pi: Pi, tiny_gguf: Path) -> None:
    def named() -> list[str]:
        found = json.loads(pi.cli("uninstall", "--dry-run", "--json").stdout)["devices"]
        return [str(name) for name in found]

    known = Path(pi.cli.env["PLM_EDGE_DATA_DIR"]) / "deployed.json"
    assert named() == []
    pi.deploy(tiny_gguf)
    assert "pi" in known.read_text()
    assert named() == ["pi"]
    pi.cli("devices", "clean", "pi")
    assert named() == []
