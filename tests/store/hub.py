"""A repository of small GGUFs on a hub of the test's own, and the real command that pulls it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit import plm_gguf
from testkit.checkout import ROOT
from testkit.cli import Cli
from testkit.hub_server import Hub, serve

NAME = "somebody/Small-GGUF"
# Breaks of the connection are waited out in seconds; the tests have no time for that.
FAST = "import plm_edge.hub.download as d; d.PAUSE = 0.01; "
PROGRAM = "import sys; from plm_edge.cli import main; sys.exit(main())"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers abcabc, 3 MB."""
    return plm_gguf.write(tmp_path_factory.mktemp("weights") / "abc.gguf", script=b"abc")


@pytest.fixture
def server(tmp_path: Path, weights: Path) -> Iterator[Hub]:
    """A hub with one repository of three quantisations, as their names say."""
    folder = tmp_path / "repository"
    folder.mkdir()
    for quant, tail in (("Q8_0", b"8888"), ("Q4_K_M", b"4"), ("IQ2_XXS", b"")):
        # Bytes after the last tensor, so that sizes and hashes differ.
        (folder / f"small-{quant}.gguf").write_bytes(weights.read_bytes() + tail)
    (folder / "mmproj-small-F16.gguf").write_bytes(b"GGUF")
    (folder / "README.md").write_text("Small")
    with serve(folder) as running:
        running.name = NAME
        yield running


@pytest.fixture
def cli(tmp_path: Path, server: Hub) -> Cli:
    """The command, in a home of its own, with the test's hub."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    home = tmp_path / "home"
    home.mkdir()
    env = {
        **kept,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PLM_EDGE_DATA_DIR": str(tmp_path / "data"),
        "PLM_EDGE_CACHE_DIR": str(tmp_path / "cache"),
        "PLM_EDGE_CONFIG_DIR": str(tmp_path / "config"),
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    made = Cli(env)
    made.command = [made.command[0], "-c", FAST + PROGRAM]
    return made


def in_hf_cache(home: Path, repository: str, file: Path) -> Path:
    """Put a copy of `file` into a Hugging Face cache as its libraries do; returns the name."""
    from testkit.hub_server import COMMIT, etag

    root = home / "hub" / f"models--{repository.replace('/', '--')}"
    blob = root / "blobs" / etag(file)
    blob.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, blob)
    link = root / "snapshots" / COMMIT / file.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link
