"""A text, models of tiny-plm, and a folder of their own for what evaluations keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.converters.convert import convert
from plm_edge.engine.options import Options
from testkit.checkout import ROOT

ONE_THREAD = Options(kv="f32", threads=1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def words() -> str:
    """Python source: about 3,000 of tiny-plm's tokens."""
    return (ROOT / "plm_edge/engine/context.py").read_text(encoding="utf-8")[:8000]


@pytest.fixture(scope="session")
def tiny_f32(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """tiny-plm in f32, in the stock layout."""
    out = tmp_path_factory.mktemp("quality") / "tiny-plm-f32.gguf"
    convert(tiny_checkpoint, quant="f32", layout="stock", out=out)
    return out


@pytest.fixture(scope="session")
def tiny_stock(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """tiny-plm in q4_k, in the stock layout."""
    out = tmp_path_factory.mktemp("quality") / "tiny-plm-q4_k-stock.gguf"
    convert(tiny_checkpoint, quant="q4_k", layout="stock", out=out)
    return out
