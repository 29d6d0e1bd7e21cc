"""A wheel as a person gets it: from a clean clone, by way of the source distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from testkit import needs
from testkit.checkout import ROOT


def run(*command: str | Path, cwd: Path, env: dict[str, str]) -> str:
    """Runs a command; returns its stdout, and shows all it said when it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment with a HOME of its own, and nothing on PATH but itself."""

    folder: Path
    env: dict[str, str]

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    @property
    def command(self) -> Path:
        return self.folder / "bin/plm-edge"

    def run(self, *command: str | Path) -> str:
        return run(*command, cwd=self.folder, env=self.env)

    def pip(self, *arguments: str | Path, **more: str) -> str:
        command = (self.python, "-m", "pip", "--disable-pip-version-check", *arguments)
        return run(*command, cwd=self.folder, env=self.env | more)


def new_environment(folder: Path) -> Environment:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    home = folder / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    env = kept | {"HOME": str(home), "PATH": str(folder / "bin"), "LANG": "C.UTF-8"}
    # what was fetched once is not fetched again; it says nothing of what is compiled
    found = subprocess.run(
        [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True
    )
    if found.returncode == 0:
        env["PIP_CACHE_DIR"] = found.stdout.strip()
    return Environment(folder, env)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the checkout has committed, and nothing else."""
    git = needs.program("git")
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone of the checkout: there is no .git")
    folder = tmp_path_factory.mktemp("clone") / "plm-edge"
    subprocess.run([git, "clone", "--quiet", ROOT, folder], check=True)
    return folder


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Where the wheel is built: there is a compiler, and ccache knows the checkout's objects."""
    made = new_environment(tmp_path_factory.mktemp("builder") / "venv")
    made.env["PATH"] += os.pathsep + os.environ["PATH"]
    if ccache := shutil.which("ccache"):
        shown = subprocess.run(
            [ccache, "--get-config", "cache_dir"], capture_output=True, text=True
        )
        made.env["CCACHE_DIR"] = shown.stdout.strip()
        # as cmake names them by itself; Python's own build says gcc, which ccache takes for another
        made.env.update({"CC": os.environ.get("CC", "cc"), "CXX": os.environ.get("CXX", "c++")})
    return made


@pytest.fixture(scope="session")
def sdist(clone: Path, builder: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, as any frontend asks the build backend for it."""
    out = tmp_path_factory.mktemp("sdist")
    builder.pip("install", "--quiet", "scikit-build-core>=0.10", "packaging")
    program = (
        "import sys; sys.path.insert(0, 'plm_edge/building/wheel'); "
        "import plm_edge_wheel; print(plm_edge_wheel.build_sdist(sys.argv[1]))"
    )
    run(builder.python, "-c", program, out, cwd=clone, env=builder.env)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="session")
def wheel(sdist: Path, builder: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from the source distribution."""
    # always in the same folder: ccache does not know a file that includes others by another path
    source = ROOT / "build/packaging"
    shutil.rmtree(source, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(source)
    (unpacked,) = source.iterdir()
    out = tmp_path_factory.mktemp("wheel")
    builder.pip("wheel", "--no-deps", "--wheel-dir", out, unpacked)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel in an environment that has no compiler, by a pip that may build nothing."""
    made = new_environment(tmp_path_factory.mktemp("installed") / "venv")
    for name in ("cc", "c++", "gcc", "g++", "cmake", "ninja", "make"):
        assert shutil.which(name, path=made.env["PATH"]) is None
    constraints = ("-c", ROOT / "constraints.txt")
    made.pip("install", "--quiet", "--only-binary", ":all:", *constraints, wheel, CC="false")
    made.env["PATH"] += os.pathsep + os.environ["PATH"]  # the tool itself asks uname
    return made
