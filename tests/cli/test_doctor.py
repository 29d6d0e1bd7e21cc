"""`plm-edge doctor`: what it finds here, and what it says when something is missing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from plm_edge import doctor
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.doctor.check import Check
from plm_edge.engine import library
from plm_edge.machine import cpu
from testkit.cli import Cli


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    assert report["schema"] == "plm-edge/doctor/1"
    return {check["name"]: check for check in report["checks"]}


def test_all_is_well_here(cli: Cli) -> None:
    report = json.loads(cli("doctor", "--json").stdout)
    checks = by_name(report)
    assert report["ok"] is True
    assert checks["engine"]["status"] == "ok"
    assert checks["compiler"]["status"] == "ok"
    assert set(checks) == {
        "python", "engine", "compiler", "cmake", "build tool", "cpu", "cpu features", "cores",
        "other programs", "memory", "gpu", "folders", "models", "tiny model",
    }  # fmt: skip
    # on a busy machine it is a note, not an error
    assert checks["other programs"]["status"] in ("ok", "note")
    flags = Path("/proc/cpuinfo").read_text()
    assert ("avx2" in checks["cpu features"]["value"].split()) == (" avx2 " in flags)
    text = cli("doctor").stdout
    assert "All that is needed is here." in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("cores", "status", "value"),
    [(1.26, "note", "they use 1.3 of 2 cores"), (0.1, "ok", "they use 0.1 of 2 cores"),
     (None, "ok", "the system does not say what they use")],
)  # fmt: skip
def test_a_busy_machine_is_noted(
    cores: float | None, status: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plm_edge.machine.load.OtherPrograms.cores", lambda _: cores)
    monkeypatch.setattr("plm_edge.machine.cores.logical", lambda: 2)
    monkeypatch.setattr(doctor, "_LOOK", 0)
    check = by_name(doctor.examine())["other programs"]
    assert (check["status"], check["value"]) == (status, value)


def test_a_folder_of_ours_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "file/data"))
    check = by_name(doctor.examine())["folders"]
    assert (check["status"], check["why"]) == ("note", f"{tmp_path / 'file'}: it is a file")
    assert "PLM_EDGE_DATA_DIR" in check["fix"]


def test_without_tools_but_with_an_engine(cli: Cli, tmp_path: Path) -> None:
    cli.env["PATH"] = str(tmp_path)
    cli.env.pop("CXX", None)
    checks = by_name(json.loads(cli("doctor", "--json").stdout))
    assert checks["compiler"]["status"] == "note"
    assert checks["compiler"]["fix"]


def broken_engine() -> object:
    raise PlmEdgeError("no engine", "it was never built", "make", ExitCode.ENVIRONMENT)


def test_without_engine_and_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from plm_edge.cli import main

    monkeypatch.setattr(library, "load", broken_engine)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert main(["doctor"]) == 4
    text = capsys.readouterr().out
    assert "Missing: engine, compiler" in text
    assert "it was never built" in text


def test_a_compiler_that_does_not_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "c++"
    fake.write_text("#!/bin/sh\necho 'fatal error: no headers' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(library, "load", broken_engine)
    check = by_name(doctor.examine())["compiler"]
    assert check["status"] == "missing"
    assert "does not work" in check["value"]
    assert "no headers" in check["why"]


def test_cxx_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler -O2")
    check = by_name(doctor.examine())["compiler"]
    assert "/no/such/compiler -O2" in check["value"]


def test_an_old_cmake(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_line(command: list[str]) -> str:
        return "cmake version 3.5.1"

    monkeypatch.setattr(doctor, "_first_line", first_line)
    assert doctor._cmake("missing") == Check(
        "cmake",
        "missing",
        "cmake version 3.5.1 is too old",
        "it configures the engine's build",
        "pip install cmake",
    )


def test_cmake_is_old_where_the_build_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """One version everywhere: what cmake refuses, doctor must not call enough."""
    root = Path(__file__).parents[2]
    text = (root / "CMakeLists.txt").read_text()
    asked = re.search(r"cmake_minimum_required\(VERSION (\d+)\.(\d+)", text)
    assert asked is not None
    major, minor = map(int, asked.groups())
    assert f"CMAKE_MINIMUM = ({major}, {minor})" in (root / "bootstrap.py").read_text()
    assert f'"cmake>={major}.{minor}"' in (root / "pyproject.toml").read_text()
    for version, status in (((major, minor), "ok"), ((major, minor - 1), "missing")):
        line = "cmake version " + ".".join(map(str, version)) + ".9"
        monkeypatch.setattr(doctor, "_first_line", lambda _, line=line: line)
        assert doctor._cmake("missing").status == status


def test_features_are_shown_by_linuxs_names(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("fpu", "avx2", "avx512f", "avx512vbmi", "avx512_vnni")
    monkeypatch.setattr(cpu, "flags", lambda: flags)
    check = by_name(doctor.examine())["cpu features"]
    assert check["value"].split() == ["avx2", "avx512f", "avx512vbmi", "avx512_vnni"]
