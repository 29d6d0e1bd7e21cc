"""`plm-edge bench --device`: estimates, and devices that are not here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testkit.cli import Cli


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


def test_stock_on_a_device_names_the_ways_out(cli: Cli, models: Path) -> None:
    call = ("bench", "compare", "stock", models / "abc.gguf", "--device", "rpi5@x")
    _, why, fix = cli.fails(*call, code=2)
    assert "that machine only" in why
    assert "on the device" in fix
    assert "--json" in fix


def test_several_ways_out_are_named(cli: Cli, models: Path) -> None:
    _, _, fix = cli.fails("bench", models / "abc.gguf", "--device", "rpi5", code=2)
    assert "--emulate" in fix


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--device", "rpi5", "--estimate", "--compare", "stock"), "--estimate"),
        (("compare", "stock", "--device", "rpi5@x", "--device", "rpi4@y"), "one device"),
        (("--device", "rpi5", "--estimate", "--html", "x.html"), "--html"),
        (("--device", "rpi5", "--emulate", "--threads", "2"), "--threads"),
        (("--device", "rpi5", "--estimate", "--gpu-layers", "0"), "--gpu"),
        (("--device", "rpi5", "--emulate", "--csv"), "--csv"),
        (("compare", "stock", "--gpu", "all"), "--gpu"),
        (("--device", "rpi5@x", "--exact"), "--exact"),
        (("--device", "rpi5@x", "--compare", "stock"), "compare stock"),
        (("--estimate",), "--estimate"),
        (("--emulate",), "--emulate"),
        (("--host", "x"), "--host"),
        (("--device", "rpi5@x", "--host", "y"), "--host"),
        (("--engine", "x"), "--engine"),
        (("--sweep", "kv=f16"), "--sweep"),
        (("matrix", "--device", "rpi5@x", "--device", "rpi4@y"), "one device"),
        (("matrix", "--engine", "x"), "--engine"),
        (("--matrix", "--threads", "2"), "--threads"),
        (("--matrix", "--compare", "stock"), "--compare"),
        (("paper", "--workload", "quick"), "--workload"),
        (("--suite", "nope"), "--suite"),
    ],
)
def test_an_option_without_effect_is_refused(
    cli: Cli, models: Path, options: tuple[str, ...], named: str
) -> None:
    what, why, _ = cli.fails("bench", *options, models / "abc.gguf", code=2)
    assert named in what + why
