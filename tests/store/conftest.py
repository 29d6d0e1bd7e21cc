"""A data folder of the test's own, and small files that begin as GGUFs do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.hub import cli as cli
from tests.store.hub import server as server
from tests.store.hub import weights as weights


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, shared by this process and the command's."""
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("PLM_EDGE_MODEL", raising=False)
    return tmp_path / "data"


def stub(path: Path) -> Path:
    """A file that is a GGUF as far as choosing one looks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF")
    return path
