"""An installed package builds from what its wheel brings, with no checkout around it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from plm_edge.base import place
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import build, source, tools
from plm_edge.building.target import target_of
from plm_edge.devices.profiles.profile import find
from testkit import needs
from testkit.checkout import ROOT


@pytest.fixture
def package(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """plm_edge as a wheel lays it out: what cmake installs, and the files that it takes."""
    site = tmp_path / "site"
    command = [str(tools.build_tool("cmake")), "--install", str(ROOT / "build/engine")]
    command += ["--prefix", str(site), "--component", "engine"]
    subprocess.run(command, check=True, capture_output=True)
    for name in source.from_package():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, site / name)
    monkeypatch.setattr(place, "ROOT", site)
    monkeypatch.setattr(place, "DATA", site / "plm_edge/data")
    return site / "plm_edge"


def test_it_is_laid_out_once_and_configures(package: Path, own_cache: Path, tmp_path: Path) -> None:
    needs.program("aarch64-linux-gnu-g++")
    root = source.root()
    assert root.parent == own_cache / "engines"
    assert source.root() == root
    # the same source gives the same key, whichever way it came
    assert source.recipe_digest(root) == source.recipe_digest(ROOT)
    made = build.configure(target_of(find("rpi5"), "gcc"), build.PROGRAMS, {}, tmp_path / "work")
    ninja = [str(tools.build_tool("ninja")), "-C", str(made), "-n", *build.PROGRAMS]
    done = subprocess.run(ninja, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_without_its_source(package: Path) -> None:
    shutil.rmtree(package / "data/source")
    with pytest.raises(PlmEdgeError, match="has no source") as caught:
        source.root()
    assert caught.value.code == ExitCode.ENVIRONMENT
