"""Builds that the tests make are kept in the checkout, with zig's cache: each is made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit.engines import ENGINES


@pytest.fixture
def kept_engines(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache that all tests which need a real build share, and later runs."""
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(ENGINES))
    return ENGINES


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PLM_EDGE_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "cache"
