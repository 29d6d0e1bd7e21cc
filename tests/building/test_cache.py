"""Builds that are kept: what tells them apart, and the commands that list and remove them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from plm_edge import cli
from plm_edge.base.errors import PlmEdgeError
from plm_edge.building import build, cache, cmake, tools
from plm_edge.building.target import target_of
from plm_edge.devices.profiles.profile import find
from plm_edge.engine import library
from testkit import needs
from testkit.manifests import kept

pytestmark = pytest.mark.usefixtures("own_cache")


def test_what_tells_builds_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    needs.program("aarch64-linux-gnu-gcc")
    target = target_of(find("rpi5"))
    first = build.key_of(target)
    assert build.key_of(target_of(find("rpi5"))) == first
    others = {
        build.key_of(target, {"CMAKE_CUDA_COMPILER": "nvcc"}),
        build.key_of(target_of(find("rpi5"), "gcc")),
        build.key_of(target_of(find("rpi4"))),
        build.key_of(dataclasses.replace(target, features=frozenset())),
        build.key_of(dataclasses.replace(target, settings=())),
    }
    monkeypatch.setattr(tools, "compiler_version", lambda target: "zig 0.18.0")
    others.add(build.key_of(target))
    pin = dataclasses.replace(library.read_pin(), tree="0" * 64)
    monkeypatch.setattr(library, "read_pin", lambda: pin)
    others.add(build.key_of(target))
    assert len(others - {first}) == 7


def test_a_kept_build_is_found_and_never_built_again(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_of(find("rpi5"))
    folder = kept(own_cache, key=build.key_of(target))
    monkeypatch.setattr(cmake, "run", None)  # whatever compiles fails
    found, cached = build.build(target, ["llama-bench"])
    assert cached
    assert found.folder == folder
    (folder / "bin/llama-bench").write_bytes(b"tampered")
    with pytest.raises(PlmEdgeError, match="damaged"):
        build.build(target, ["llama-bench"])


def test_programs_that_a_kept_build_lacks_join_it(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_of(find("rpi5"))
    kept(own_cache, key=build.key_of(target))
    asked: list[list[str]] = []
    monkeypatch.setattr(build, "_build", lambda wanted, programs, *rest: asked.append([*programs]))
    build.build(target, ["llama-server"])
    assert asked == [["llama-server", "llama-bench"]]


def test_the_newest_of_this_version(own_cache: Path) -> None:
    kept(own_cache, tree="0" * 64, key="a" * 16)
    with pytest.raises(PlmEdgeError, match="older ones only"):
        cache.find("rpi5")
    current = kept(own_cache, key="b" * 16)
    assert cache.find("rpi5").folder == current
    with pytest.raises(PlmEdgeError, match="has none"):
        cache.find("rpi4")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert cli.main([*arguments, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_list_path_clean(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = kept(own_cache, tree="0" * 64, key="a" * 16)
    new = kept(own_cache, key="b" * 16)
    other = kept(own_cache, device="rpi4", key="c" * 16)
    listed = run(capsys, "engine", "list")["builds"]
    assert isinstance(listed, list)
    assert sorted(item["current"] for item in listed) == [False, True, True]
    assert run(capsys, "engine", "path", "--device", "rpi5")["folder"] == str(new)
    assert run(capsys, "engine", "clean")["builds"] == 1
    assert not old.exists()
    assert run(capsys, "engine", "clean", "--device", "rpi4")["builds"] == 1
    assert not other.exists()
    assert new.exists()
    assert cli.main(["engine", "clean", "--device", "rpi5", "--all"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert new.exists()
    assert run(capsys, "engine", "clean", "--all")["builds"] == 1
    assert not new.exists()


def test_nothing_is_built_for_a_name_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["engine", "build", "--device", "rpi6"]) == 3
    assert "rpi5" in capsys.readouterr().err
    assert cli.main(["engine", "build", "--device", "rpi5", "--compiler", "tcc"]) == 2


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "file/cache"))
    with pytest.raises(PlmEdgeError, match="cannot be used") as caught, cache.lock("x"):
        pass
    assert "PLM_EDGE_CACHE_DIR" in caught.value.fix
