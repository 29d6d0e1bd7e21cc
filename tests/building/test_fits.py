"""A build meets a device: what it holds, and what that lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.building import manifest as records
from plm_edge.building.fits import require_fits
from plm_edge.devices.profiles.profile import find
from testkit.manifests import kept, manifest


def refused(device: str, libc: str = "", system: str = "", **changed: object) -> PlmEdgeError:
    profile = find(device)
    with pytest.raises(PlmEdgeError) as caught:
        require_fits(manifest(**changed), device, profile.arch, profile.features, libc, system)
    assert caught.value.code == ExitCode.ENVIRONMENT
    return caught.value


def test_its_own_device() -> None:
    profile = find("rpi5")
    require_fits(manifest(), "rpi5", profile.arch, profile.features, "glibc 2.36", "Linux")


def test_an_older_cpu() -> None:
    error = refused("rpi4")
    assert error.what == "the engine for rpi5 does not run on rpi4"
    assert "dotprod (asimddp), fp16 (asimdhp), LSE atomics (atomics)" in error.why
    assert error.fix == "build one for it: plm-edge engine build --device rpi4"


def test_another_architecture() -> None:
    assert "for aarch64, and x86-64-v3 is x86_64" in refused("x86-64-v3").why


def test_an_older_glibc() -> None:
    assert "needs glibc 2.34, and rpi5 has 2.31" in refused("rpi5", "glibc 2.31").why


def test_another_system() -> None:
    assert "for Linux, and rpi5 runs Darwin" in refused("rpi5", system="Darwin").why


def test_a_phone_has_no_glibc() -> None:
    assert "needs glibc 2.34, and pixel8 runs Android" in refused("pixel8", "bionic").why
    profile = find("pixel8")
    require_fits(manifest(glibc=""), "pixel8", profile.arch, profile.features, "bionic")


def test_musl_asks_for_no_glibc() -> None:
    profile = find("pixel8")
    require_fits(manifest(glibc=""), "pixel8", profile.arch, profile.features, "glibc 2.17")


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = kept(tmp_path)
    found = records.read(folder)
    assert found.requires == manifest().requires
    records.verify(folder, found)
    (folder / "bin/llama-bench").write_bytes(b"Program")
    with pytest.raises(PlmEdgeError, match="changed"):
        records.verify(folder, found)
    (folder / "bin/llama-bench").unlink()
    with pytest.raises(PlmEdgeError, match="missing"):
        records.verify(folder, found)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": "plm-edge/engine/0"}', '{"schema": "plm-edge/engine/1"}']
)
def test_what_is_no_manifest(text: str, tmp_path: Path) -> None:
    (tmp_path / records.NAME).write_text(text)
    with pytest.raises(PlmEdgeError, match="no build of the engine"):
        records.read(tmp_path)
