"""The engine is refused when it is missing, foreign, of another version or for another CPU."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import library
from plm_edge.machine import cpu


def load_in_child(folder: Path, code: str = "library.load()") -> subprocess.CompletedProcess[str]:
    """Loads the libraries of `folder` in a process of its own: a loaded library stays loaded."""
    script = (
        "from plm_edge.engine import library\n"
        "from plm_edge.base.errors import PlmEdgeError\n"
        f"try:\n    {code}\n    print('loaded')\n"
        "except PlmEdgeError as error:\n    print(int(error.code), error, sep='\\n')\n"
    )
    environment = os.environ | {library.LIB_DIR_VARIABLE: str(folder)}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's libraries, in another folder."""
    return Path(shutil.copytree(library.find(), tmp_path / "lib"))


def test_ours_loads_and_says_what_it_is() -> None:
    engine = library.load()
    pin = library.read_pin()
    assert engine.info.pin == f"{pin.package} {pin.version}"
    assert engine.info.tree == pin.tree
    assert engine.info.version
    assert engine.bindings.llama_supports_mmap()


def test_libraries_can_be_moved(copy: Path) -> None:
    done = load_in_child(copy, "library.load().bindings.llama_backend_init()")
    assert done.stdout == "loaded\n", done.stderr


def test_licence_lies_beside_the_libraries() -> None:
    assert "MIT License" in (library.find() / "LICENSE.llama.cpp").read_text()


def test_no_library(tmp_path: Path) -> None:
    code, what, why, fix = load_in_child(tmp_path).stdout.splitlines()
    assert int(code) == ExitCode.ENVIRONMENT
    assert what == "the plm-edge engine is not built"
    assert str(tmp_path) in why
    assert library.LIB_DIR_VARIABLE in fix


def test_foreign_library(copy: Path, tmp_path: Path) -> None:
    # a real library, but not ours
    shutil.copy(copy / "libggml-base.so", copy / "libllama.so")
    code, what, why, fix = load_in_child(copy).stdout.splitlines()
    assert int(code) == ExitCode.ENVIRONMENT
    assert what == "this llama.cpp library is not plm-edge's"
    assert "plm_edge_build_info" in why
    assert "make engine" in fix


def test_broken_library(copy: Path) -> None:
    file = copy / "libllama.so"
    file.write_bytes(b"\0" * 64 + file.read_bytes()[64:])
    assert "does not load" in load_in_child(copy).stdout


def test_the_compilers_own_library_is_missing(copy: Path) -> None:
    """As on a slim system: the library asks for one that is not there."""
    file = copy / "libggml-base.so"
    data = file.read_bytes()
    assert b"libstdc++.so.6" in data
    file.write_bytes(data.replace(b"libstdc++.so.6", b"libstdc++.so.0"))
    code, what, why, fix = load_in_child(copy).stdout.splitlines()
    assert int(code) == ExitCode.ENVIRONMENT
    assert what == "the plm-edge engine does not load"
    assert "libstdc++.so.0" in why
    assert fix == "install the library (Debian: apt install libstdc++6)"


def test_other_tree(copy: Path) -> None:
    file = copy / "libllama.so"
    data = file.read_bytes()
    tree = library.load().info.tree.encode()
    assert data.count(tree) == 1
    file.write_bytes(data.replace(tree, b"0" * len(tree)))
    code, what, why, _ = load_in_child(copy).stdout.splitlines()
    assert int(code) == ExitCode.ENVIRONMENT
    assert what == "the plm-edge engine is of another version than this plm-edge"
    assert "000000000000" in why


def test_other_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    info = library.load().info
    if not info.cpu_flags:
        assert not Path("/proc/cpuinfo").exists()
        return
    lacking = min(info.cpu_flags)
    monkeypatch.setattr(cpu, "flags", lambda: tuple(info.cpu_flags - {lacking}))
    with pytest.raises(PlmEdgeError) as caught:
        library._check(info, library.read_pin(), Path("libllama.so"))
    assert caught.value.what == "the plm-edge engine was built for another CPU"
    assert lacking in caught.value.why


def test_other_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("plm_edge.bindings"), "__version__", "0.1.2")
    with pytest.raises(PlmEdgeError) as caught:
        library._load_bindings(library.find())
    assert "0.1.2" in caught.value.why
    assert "make engine" in caught.value.fix


def test_bindings_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_BINDINGS", "plm_edge.not_there")
    with pytest.raises(PlmEdgeError, match="not_there is missing"):
        library._load_bindings(library.find())


def test_a_llama_cpp_of_the_person_s_own_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "llama_cpp"
    own.mkdir()
    (own / "__init__.py").write_text("raise SystemExit('the wrong llama_cpp was imported')\n")
    code = (
        "import os, sys; from plm_edge.engine import library; bindings = library.load().bindings; "
        "bindings.llama_backend_init(); print(bindings.__name__, 'llama_cpp' in sys.modules, "
        "os.environ['LLAMA_CPP_LIB_PATH'])"
    )
    environment = os.environ | {"LLAMA_CPP_LIB_PATH": "theirs"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout == "plm_edge.bindings.llama_cpp False theirs\n", done.stderr
