"""The real command, with data and cache folders of its own; and models that follow a script."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testkit import plm_gguf
from testkit.checkout import ROOT
from testkit.cli import Cli

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}\n{% endfor %}a"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    unwanted = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE")
    env = {name: value for name, value in os.environ.items() if name not in unwanted}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    env["PLM_EDGE_DATA_DIR"] = str(tmp_path / "data")
    env["PLM_EDGE_CACHE_DIR"] = str(tmp_path / "cache")
    env["TERM"] = "xterm-256color"
    return Cli(env)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models: random.gguf, abc.gguf (answers abcabc…), xyz-end.gguf (xyz, end)."""
    folder = tmp_path_factory.mktemp("models")
    plm_gguf.write(folder / "random.gguf", n_ctx=200_000)
    plm_gguf.write(folder / "abc.gguf", script=b"abc", n_ctx=200_000)
    plm_gguf.write(folder / "xyz-end.gguf", script=b"xyz", endless=False)
    return folder


@pytest.fixture(scope="session")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """chat.gguf answers xyz and ends; endless.gguf goes on; both have a template."""
    folder = tmp_path_factory.mktemp("chatty")
    plm_gguf.write(folder / "chat.gguf", script=b"xyz", endless=False, chat_template=TEMPLATE)
    plm_gguf.write(folder / "endless.gguf", script=b"xyz", n_ctx=200_000, chat_template=TEMPLATE)
    return folder
