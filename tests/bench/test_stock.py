"""The stock build: upstream's own files, built as ours are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plm_edge.base import place
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import stock
from plm_edge.engine import library
from testkit.checkout import ROOT


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What would be run; the compiler's result is put there instead."""
    seen: list[tuple[str, ...]] = []

    def run(what: str, *command: str) -> None:
        seen.append(command)
        if what == "compile":
            built = Path(command[command.index("--build") + 1]) / "bin"
            built.mkdir(parents=True)
            (built / "llama-bench").touch()

    monkeypatch.setattr(stock, "_run", run)
    return seen


def test_it_builds_what_upstream_wrote(commands: list[tuple[str, ...]], tmp_path: Path) -> None:
    built = stock.build_stock(tmp_path)
    assert (built / "llama-bench").is_file()
    (tree,) = tmp_path.glob("source-*")
    ours = ROOT / "vendor/llama.cpp/overlay"
    assert (tree / "src/models/plm.cpp").read_text() != (ours / "src/models/plm.cpp").read_text()
    assert not (tree / "ggml/src/ggml-cpu/plm").exists()
    assert not [
        path for path in tree.rglob("*.h") if "plm_edge" in path.read_text("utf-8", "replace")
    ]
    configure, compile_ = commands
    assert str(tree) in configure
    assert {"llama", "llama-bench"} <= set(compile_)
    assert stock.build_stock(tmp_path) == built
    assert len(commands) == 2, "built twice"


def test_a_build_that_was_broken_off_is_begun_again(
    commands: list[tuple[str, ...]], tmp_path: Path
) -> None:
    stock.build_stock(tmp_path)
    (tmp_path / "stock.json").unlink()
    (tmp_path / "build/bin/llama-bench").unlink()
    (tmp_path / "build/bin").rmdir()
    stock.build_stock(tmp_path)
    assert len(commands) == 4


def test_both_are_built_alike() -> None:
    """What CMakeLists.txt sets for ours and what is set for stock agree, but for what adds ops."""
    text = (ROOT / "CMakeLists.txt").read_text()
    ours = dict(
        re.findall(r"^set\((GGML_\w+|LLAMA_OPENSSL|BUILD_SHARED_LIBS)\s+(\S+)\)", text, re.M)
    )
    assert ours.pop("GGML_RPC") == "ON"  # another backend, idle unless asked for
    assert ours.pop("GGML_OPENMP") == "OFF"  # a pool of our own; stock keeps upstream's choice
    assert ours.pop("GGML_NATIVE") == "${PLM_EDGE_NATIVE}"
    assert stock.SETTINGS["GGML_NATIVE"] == "ON"
    assert {name: stock.SETTINGS[name] for name in ours} == ours


def test_without_a_source_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(place, "ROOT", tmp_path)
    monkeypatch.setattr(place, "DATA", tmp_path / "plm_edge/data")
    with pytest.raises(PlmEdgeError, match="has no source") as caught:
        stock.build_stock(tmp_path)
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_what_cannot_be_fetched_is_its_own_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(PlmEdgeError, match="could not be fetched") as caught:
        stock.build_stock(tmp_path / "stock")
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert library.read_pin().version in caught.value.what
