"""The real command, with folders of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit.cli import Cli
from tests.cli.conftest import cli  # noqa: F401 -- the same fixture


@pytest.fixture
def config(cli: Cli, tmp_path: Path) -> Path:  # noqa: F811
    """The command's configuration folder."""
    cli.env["PLM_EDGE_CONFIG_DIR"] = str(tmp_path / "config")
    return tmp_path / "config"
