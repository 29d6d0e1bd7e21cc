"""The engine that a device gets: kept, built now, or a clear word why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import cache, cmake, tools
from plm_edge.building.cache import KeptBuild
from plm_edge.building.manifest import BuiltFile
from plm_edge.cli import deploy as command
from plm_edge.deploy import device_engine
from plm_edge.devices import facts
from plm_edge.devices.facts import Facts
from testkit import manifests

SERVER = BuiltFile("bin/llama-server", 1, "", {}, {})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PLM_EDGE_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "cache"


def of_pi(**changed: object) -> Facts:
    """What a Raspberry Pi 5 says of itself, with what is changed."""
    said = facts.parse("== system\nLinux\naarch64\n6.12\n== libc\nglibc 2.36\n")
    return replace(said, features=manifests.A76, **changed)  # type: ignore[arg-type]


def test_one_is_built_when_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = KeptBuild(tmp_path, manifests.manifest(files=(SERVER,)))

    def build(
        wanted: object, *, progress: Callable[[int, int, str], None]
    ) -> tuple[KeptBuild, bool]:
        progress(1, 2, "a.o")
        progress(2, 2, "b.o")
        return made, False

    monkeypatch.setattr(device_engine, "build", build)
    assert command.engine_of("rpi5", None) == made
    assert capsys.readouterr().err.count("there is no engine for rpi5 yet: building it") == 1


def test_what_the_compiler_said_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own_cache: Path
) -> None:
    manifests.kept(own_cache)  # one of other settings is no substitute

    def build(wanted: object, **rest: object) -> None:
        error = cmake.BuildFailed("it does not build", "why", "fix", ExitCode.ENVIRONMENT)
        error.lines = ("a.cpp:1: error: no",)
        raise error

    monkeypatch.setattr(device_engine, "build", build)
    with pytest.raises(cmake.BuildFailed):
        command.engine_of("rpi5", None)
    assert "a.cpp:1: error: no" in capsys.readouterr().err


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    def missing() -> Path:
        raise tools.missing_tool("zig", "the package ziglang is not installed", "install it")

    monkeypatch.setattr(tools, "zig", missing)
    with pytest.raises(PlmEdgeError) as caught:
        device_engine.find_or_build("rpi5")
    assert caught.value.what == "the engine cannot be built: zig is missing"
    assert caught.value.code == ExitCode.ENVIRONMENT
    # one that is kept serves, if it is of this version and has what is needed
    folder = manifests.kept(own_cache)
    with pytest.raises(PlmEdgeError, match="lacks llama-server"):
        device_engine.find_or_build("rpi5")
    replace(cache.find("rpi5").manifest, files=(SERVER,)).write(folder)
    assert device_engine.find_or_build("rpi5").folder == folder


def test_a_folder_that_holds_no_engine(tmp_path: Path) -> None:
    with pytest.raises(PlmEdgeError, match="is no build of the engine"):
        device_engine.find_or_build("rpi5", tmp_path)


def test_what_goes_to_a_device() -> None:
    names = ("llama-cli", "plm-edge-bench", "llama-server", "libllama.so.0", "rpc-server")
    made = manifests.manifest(files=tuple(replace(SERVER, path=f"bin/{name}") for name in names))
    paths = [item.path for item in device_engine.parts(KeptBuild(Path(), made))]
    assert paths == ["bin/plm-edge-bench", "bin/llama-server", "bin/libllama.so.0"]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"machine": "x86_64"}, "is x86_64"),
        ({"system": "Darwin", "libc": ""}, "runs Darwin"),
        ({"libc": "glibc 2.31"}, "has 2.31"),
        ({"libc": "bionic"}, "runs Android"),
        ({"features": ("fp", "asimd")}, "dotprod"),
    ],
)
def test_a_mismatch_is_found_before_anything_is_sent(changed: dict[str, object], word: str) -> None:
    built = KeptBuild(Path(), manifests.manifest())
    device_engine.require_fits(built, "pi", of_pi())
    with pytest.raises(PlmEdgeError, match=word):
        device_engine.require_fits(built, "pi", replace(of_pi(), **changed))  # type: ignore[arg-type]
