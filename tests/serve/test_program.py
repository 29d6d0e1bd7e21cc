"""Which llama-server is used: one of this plm-edge's tree, and no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from plm_edge.base import place
from plm_edge.base.errors import PlmEdgeError
from plm_edge.building import build as builds
from plm_edge.engine import library
from plm_edge.serve.program import VARIABLE, find_or_build, why_not


def test_a_checkout_uses_its_build(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_or_build() == program
    assert why_not(program) == ""


def test_one_that_is_named(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(program))
    assert find_or_build() == program
    fake = tmp_path / "llama-server"
    for make, why in (
        (lambda: None, "is missing"),
        (lambda: fake.write_text("#!/bin/sh\n"), "is no program"),
        (lambda: fake.chmod(0o755), "was not built from tree"),
        (lambda: shutil.copy(program.with_name("libllama.so"), tmp_path), ""),
    ):
        make()
        monkeypatch.setenv(VARIABLE, str(fake))
        if why:
            with pytest.raises(PlmEdgeError) as error:
                find_or_build()
            assert why in error.value.why
        else:
            assert find_or_build() == fake
    fake.write_text("#!/bin/sh\necho it lacks a library >&2\nexit 127\n")
    assert why_not(fake).endswith("does not run: it lacks a library")


def test_another_tree_is_not_ours(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = library.read_pin()
    other = type(pin)(**{**pin.__dict__, "tree": "0" * 64})
    monkeypatch.setattr(library, "read_pin", lambda: other)
    assert why_not(program).endswith("was not built from tree 000000000000, as PIN.toml has it")


def test_without_a_checkout_it_is_built_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiling itself is tests/building's; here it is only asked for."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(place, "checkout", lambda: None)
    monkeypatch.setattr(place, "PACKAGE", tmp_path / "nowhere")
    monkeypatch.setattr(builds, "key_of", lambda target: "k" * 64)
    asked = []

    class Kept:
        programs = tmp_path / "engines/host-kkkkkkkkkkkk/bin"

    def build(target: object, wanted: list[str], **_more: object) -> tuple[type[Kept], bool]:
        asked.append(wanted)
        Kept.programs.mkdir(parents=True, exist_ok=True)
        (Kept.programs / "llama-server").touch()
        return Kept, False

    monkeypatch.setattr(builds, "build", build)
    said: list[str] = []
    for _ in range(2):
        assert find_or_build(on_build=said.append) == Kept.programs / "llama-server"
    assert asked == [["llama-server"]] * 2
    assert len(said) == 1
