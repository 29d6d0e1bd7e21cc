"""`plm-edge profile` as a process."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli


def test_the_command(cli: Cli, models: Path, tmp_path: Path) -> None:
    short = ("--prefill", "16", "--depth", "0", "--threads", "1")
    done = cli("profile", models / "abc.gguf", *short, "--html", tmp_path / "f.html")
    assert "MUL_MAT" in done.stdout
    assert (tmp_path / "f.html").read_text().startswith("<!doctype html>")
    found = json.loads(cli("profile", models / "abc.gguf", *short, "--json").stdout)
    assert [phase["name"] for phase in found["phases"]] == ["pp16", "tg16"]
