"""`plm-edge bench --device`: estimates, and devices that are not here."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli


def test_a_device_that_is_not_here_names_the_ways_out(cli: Cli, models: Path) -> None:
    what, _, fix = cli.fails("bench", models / "abc.gguf", "--device", "rpi5", code=2)
    assert "not here" in what
    assert "--host" in fix
    assert "--estimate" in fix


def test_every_line_of_an_estimate_says_so(cli: Cli, models: Path) -> None:
    call = ("bench", models / "abc.gguf", "--device", "rpi5", "--estimate", "--threads", "1")
    lines = [line for line in cli(*call).stdout.splitlines() if line.strip()]
    assert "not measured" in lines[0]
    assert all("estimate" in line for line in lines[1:])
    (found,) = json.loads(cli(*call, "--json").stdout)["results"]
    assert found["estimate"] is True


def test_an_unknown_device(cli: Cli, models: Path) -> None:
    cli.fails("bench", models / "abc.gguf", "--device", "rpi9", code=3)
