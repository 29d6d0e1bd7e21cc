"""A build carries the licences of what is compiled into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.building import licences
from plm_edge.building.target import target_of
from plm_edge.devices.profiles.profile import find
from testkit import needs

NOTICES = {
    "LICENSE.plm-edge": "Permission is hereby granted",
    "LICENSE.llama.cpp": "The ggml authors",
    "LICENSE.nlohmann-json": "Niels Lohmann",
    "LICENSE.cpp-httplib": "yhirose",
    "LICENSE.xxhash": "Yann Collet",
    "LICENSE.rotate-bits": "William Casarin",
}


def test_what_is_compiled_in_is_named(tmp_path: Path) -> None:
    licences.place(replace(target_of(find("rpi5")), compiler="gcc"), tmp_path / "made")
    found = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert found.keys() == NOTICES.keys()
    assert all(notice in found[name] for name, notice in NOTICES.items())


@pytest.mark.parametrize(("device", "musl"), [("rpi5", False), ("android-arm64", True)])
def test_zig_links_its_own_libraries_in(device: str, musl: bool, tmp_path: Path) -> None:
    needs.package("ziglang")
    target = replace(target_of(find(device)), compiler="zig")
    licences.place(target, tmp_path / "made")
    found = {path.name for path in (tmp_path / "made").iterdir()}
    assert found == {*NOTICES, "LICENSE.zig", *(["LICENSE.musl"] if musl else [])}
