"""A model that was prepared by other code is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import prepare
from plm_edge.converters import convert
from plm_edge.model import gguf_file
from plm_edge.quality import calibration, products, rounding
from testkit.checkout import ROOT


@pytest.mark.parametrize("module", [convert, gguf_file, calibration, products, rounding])
def test_what_decides_bytes_is_hashed(module: object) -> None:
    file = Path(str(module.__file__)).resolve()  # type: ignore[attr-defined]
    assert any(file.is_relative_to(ROOT / place) for place in prepare.CONVERSION)


@pytest.mark.parametrize("name", ["a.py", "inner/b.py", "inner/text.txt"])
def test_a_change_of_any_file_of_a_room_counts(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(prepare, "ROOT", tmp_path)
    (tmp_path / "room/inner").mkdir(parents=True)
    for file in ("a.py", "inner/b.py", "inner/text.txt", "inner/b.pyc"):
        (tmp_path / "room" / file).write_text("1")
    before = prepare.code_hash("room")
    (tmp_path / "room/inner/b.pyc").write_text("2")
    assert prepare.code_hash("room") == before
    (tmp_path / "room" / name).write_text("2")
    assert prepare.code_hash("room") != before
