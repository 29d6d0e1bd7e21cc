"""The wheel installs without a compiler, runs by itself and says what it may be used on."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from packaging.tags import Tag, sys_tags
from packaging.utils import parse_wheel_filename

from plm_edge.engine import library
from testkit.checkout import ROOT
from tests.packaging.conftest import Environment, run

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("packaging")]
RUN = ("run", "--prompt", "def add(a, b):", "-n", "12", "--temp", "0")


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_puts_one_name_into_site_packages(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"plm_edge"}
    assert not [name for name in names(wheel) if "__pycache__" in name]


def test_the_converters_are_in_it_as_files(wheel: Path, sdist: Path) -> None:
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "converters").rglob("*.py")}
    wanted = {f"plm_edge/{name}" for name in found}
    assert wanted <= names(wheel)
    with tarfile.open(sdist) as archive:
        members = {m.name.partition("/")[2]: m for m in archive.getmembers()}
    assert all(members[name].isfile() for name in wanted)
    assert not [name for name in members if name.startswith("converters/")], "twice in the sdist"


def test_a_clone_gives_the_same_package(
    clone: Path, builder: Environment, wheel: Path, tmp_path: Path
) -> None:
    builder.pip(
        *("wheel", "--quiet", "--no-deps", "--config-settings", "wheel.cmake=false"),
        *("--wheel-dir", tmp_path, clone),
    )
    (made,) = tmp_path.iterdir()
    compiled = re.compile(r"plm_edge/(bin|bindings|data|lib)/|.*\.dist-info/")
    assert {n for n in names(wheel) if not compiled.match(n)} == {
        name for name in names(made) if not compiled.match(name)
    }


def test_the_licences_are_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (ours,) = [n for n in archive.namelist() if n.endswith(".dist-info/licenses/LICENSE")]
        assert archive.read(ours) == (ROOT / "LICENSE").read_bytes()
        assert b"The ggml authors" in archive.read("plm_edge/lib/LICENSE.llama.cpp")
        assert b"Andrei Betlen" in archive.read("plm_edge/bindings/LICENSE.md")
        assert b"Niels Lohmann" in archive.read("plm_edge/lib/LICENSE.nlohmann-json")
        # the weights may repeat what they were trained on
        assert b"Python Software Foundation" in archive.read(
            "plm_edge/data/tiny-plm/LICENSE.python"
        )


def test_its_tag_is_one_of_this_machine_and_covers_its_libraries(wheel: Path) -> None:
    tags: frozenset[Tag] = parse_wheel_filename(wheel.name)[3]
    assert tags & set(sys_tags()), f"pip would refuse {wheel.name} here"
    (tag,) = tags
    assert (tag.interpreter, tag.abi) == ("py3", "none")
    promised = re.fullmatch(r"manylinux_(\d+)_(\d+)_\w+", tag.platform)
    assert promised, tag.platform
    needed: set[tuple[int, ...]] = set()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if ".so" in Path(name).suffixes:
                needed |= glibc_versions(archive.read(name))
    assert max(needed) <= tuple(map(int, promised.groups()))


def glibc_versions(library: bytes) -> set[tuple[int, ...]]:
    """The versions of glibc's symbols that an ELF file needs, as (2, 34)."""
    section = ELFFile(io.BytesIO(library)).get_section_by_name(".gnu.version_r")
    assert isinstance(section, GNUVerNeedSection)
    found = (aux.name for _, versions in section.iter_versions() for aux in versions)
    return {
        tuple(map(int, name.removeprefix("GLIBC_").split(".")))
        for name in found
        if re.fullmatch(r"GLIBC_[\d.]+", name)
    }


def test_what_it_needs_is_there(installed: Environment) -> None:
    installed.pip("check")
    shown = json.loads(installed.pip("list", "--format", "json"))
    assert not {"llama-cpp-python", "llama_cpp_python"} & {entry["name"] for entry in shown}


def test_it_runs_as_the_checkout_does(installed: Environment, tmp_path: Path) -> None:
    said = installed.run(installed.command, *RUN)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    environment |= {f"PLM_EDGE_{name}_DIR": str(tmp_path / name) for name in ("CACHE", "DATA")}
    here = run(sys.executable, "-m", "plm_edge", *RUN, cwd=tmp_path, env=environment)
    assert said == here
    assert len(said.strip()) > 10


def test_it_measures(installed: Environment) -> None:
    """The native program comes along, may be run and finds the libraries beside it."""
    said = installed.run(
        *(installed.command, "bench", "--workload", "smoke", "--no-history", "--json", "-q")
    )
    points = {point["name"]: point for point in json.loads(said)["points"]}
    assert points["tg8"]["samples_s"]


def test_it_takes_nothing_from_the_checkout(installed: Environment) -> None:
    program = (
        "import sys; from plm_edge.engine import library; engine = library.load(); "
        "engine.bindings; import plm_edge.converters.convert; "
        "print(engine.folder); print(engine.info.tree); "
        "print(*[m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)])"
    )
    folder, tree, files = installed.run(installed.python, "-c", program).splitlines()
    assert Path(folder).is_relative_to(installed.folder)
    assert tree == library.read_pin().tree
    assert str(ROOT) not in files
    assert "site-packages/plm_edge/bindings/llama_cpp.py" in files


def test_its_engine_commands(installed: Environment) -> None:
    assert "rpi5" in installed.run(installed.command, "devices")
    shown = json.loads(installed.run(installed.command, "engine", "list", "--json"))
    assert shown["schema"].startswith("plm-edge/")
    installed.run(installed.command, "doctor", "--json")


def test_it_brings_the_source_of_its_engine(installed: Environment, sdist: Path) -> None:
    program = "from plm_edge.building import source; print(source.vendor())"
    vendor = Path(installed.run(installed.python, "-c", program).strip())
    assert vendor.is_relative_to(installed.folder)
    # the script stands by itself there, and makes from the pinned file what the wheel has
    out = installed.folder / "bindings"
    cache = installed.env | {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", "")}
    if not cache["XDG_CACHE_HOME"]:
        cache["XDG_CACHE_HOME"] = str(Path.home() / ".cache")
    run(installed.python, "-I", vendor / "sync.py", "bindings", out, cwd=vendor, env=cache)
    carried = Path(library.find()).parent / "bindings"
    for path in out.glob("*.py"):
        assert path.read_bytes() == (carried / path.name).read_bytes()
