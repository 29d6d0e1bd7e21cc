"""`plm-edge profile` as a process."""

from __future__ import annotations

import json
from pathlib import Path

from testkit.cli import Cli


def test_the_command(cli: Cli, models: Path, tmp_path: Path) -> None:
    short = ("--prefill", "16", "--depth", "0", "--threads", "1")
    done = cli("profile", models / "abc.gguf", *short, "--html", tmp_path / "f.html")
    assert "MUL_MAT" in done.stdout
    assert (tmp_path / "f.html").read_text().startswith("<!doctype html>")
    found = json.loads(cli("profile", models / "abc.gguf", *short, "--json").stdout)
    assert [phase["name"] for phase in found["phases"]] == ["pp16", "tg16"]


def test_a_picture_that_cannot_be_written_is_told_first(
    cli: Cli, models: Path, tmp_path: Path
) -> None:
    for place, word in (
        (tmp_path / "no/f.html", "there is no folder"),
        (tmp_path, "it is a folder"),
        (Path("/proc/f.html"), "No such file"),
    ):
        _, why, fix = cli.fails("profile", models / "abc.gguf", "--html", place, code=2)
        assert word in why
        assert "--html" in fix


def test_too_little_memory_names_its_own_options(cli: Cli, models: Path) -> None:
    what, _, fix = cli.fails("profile", models / "abc.gguf", "--prefill", "99999999", code=5)
    assert what == "not enough memory for abc.gguf"
    assert "--prefill" in fix
    assert "--ctx" not in fix
