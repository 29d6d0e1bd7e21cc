"""uninstall removes exactly what was placed; plm-edge alone says what there is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plm_edge.deploy import carriers
from testkit.checkout import ROOT
from testkit.cli import Cli
from tests.store.hub import NAME, in_hf_cache


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def report(cli: Cli, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("uninstall", *arguments, "--json").stdout)
    assert found["schema"] == "plm-edge/uninstall/1"
    return found


@pytest.fixture
def used(cli: Cli, weights: Path, tmp_path: Path) -> Path:
    """A machine on which plm-edge was used, and a GGUF of the person's."""
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(weights.read_bytes())
    link = in_hf_cache(tmp_path / "hf", "else/Where", mine)
    cli("add", mine, link)
    cli("pull", NAME)
    cli("pull", f"{NAME}:Q8_0", "--into", tmp_path / "other")
    cli("run", "tiny-plm", "-p", "x", "-n", "1")
    cli("devices", "add", "pi", "--profile", "rpi5", "--host", "nowhere.invalid")
    for name in ("data/chats/a.json", "cache/engines/k/lib.so", "data/serve/key",
                 "config/devices/mine.toml"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return mine


def test_all_of_it_and_nothing_else(cli: Cli, used: Path, tmp_path: Path) -> None:
    (tmp_path / "cache/of-the-person").write_text("x")
    before = tree(tmp_path)
    assert "--yes" in cli.fails("uninstall", code=2)[2]
    assert tree(tmp_path) == before
    listed = report(cli, "--dry-run")
    assert not listed["removed"]
    assert tree(tmp_path) == before
    done = report(cli, "--yes")
    assert done["removed"]
    assert done["placed"] == listed["placed"]
    assert done["stay"] == [str(tmp_path / "cache/of-the-person")]
    assert str(ROOT) in done["program"]
    assert tree(tmp_path / "cache") == {"of-the-person"}
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "config").exists()
    assert not list((tmp_path / "other").iterdir())
    ours = ("data", "cache", "config", "other/", "home")
    left = {name for name in before if not name.startswith(ours)}
    assert {name for name in tree(tmp_path) if not name.startswith(ours)} == left
    assert used.exists()
    again = cli("uninstall", "--yes")
    assert "nothing was placed" in again.stderr


def test_keep(cli: Cli, used: Path, tmp_path: Path) -> None:
    report(cli, "--yes", "--keep", "models", "--keep", "chats")
    assert (tmp_path / "data/chats/a.json").exists()
    assert len(json.loads(cli("list", "--json").stdout)["models"]) == 4
    assert not (tmp_path / "cache").exists()
    assert "models, chats" in cli.fails("uninstall", "--keep", "x", code=2)[1]


def test_links_are_removed_and_not_followed(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("x")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/engines").symlink_to(tmp_path / "elsewhere")
    report(cli, "--yes")
    assert not (tmp_path / "cache").exists()
    assert (tmp_path / "elsewhere/file").exists()


def test_devices_are_named(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "data"))
    assert carriers.names() == []
    carriers.remember("pi")
    carriers.remember("phone")
    carriers.remember("pi")
    assert carriers.names() == ["phone", "pi"]
    carriers.forget("phone")
    assert report(cli, "--dry-run")["devices"] == ["pi"]
    assert "plm-edge devices clean pi" in cli("uninstall", "--yes").stderr
    carriers.path().parent.mkdir()
    carriers.path().write_text("{")
    assert carriers.names() == []


class TestAlone:
    def test_nothing_yet(self, cli: Cli) -> None:
        done = cli()
        assert "none; tiny-plm came with plm-edge" in done.stdout
        steps = [line for line in done.stdout.splitlines() if line.startswith("plm-edge ")][1:]
        assert [line.split()[1] for line in steps] == ["run", "pull", "convert"]

    def test_with_models_and_devices(self, cli: Cli, used: Path) -> None:
        used.unlink()
        done = cli()
        assert f"3, newest {NAME}:Q8_0" in done.stdout
        assert "1 whose file is gone" in done.stdout
        steps = [line for line in done.stdout.splitlines() if line.startswith("plm-edge ")][1:]
        assert len(steps) == 3
        for step in steps:
            cli(step.split()[1], "--help")

    def test_a_damaged_list_of_devices(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "config").mkdir()
        (tmp_path / "config/devices.json").write_text("{")
        assert "cannot be read" in cli().stderr

    def test_no_engine_is_loaded(self, cli: Cli) -> None:
        program = (
            "import sys; from plm_edge.cli import main; assert main([]) == 0; "
            "print([m for m in sys.modules if m in ('numpy', 'plm_edge.engine.library')])"
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=cli.env, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"
