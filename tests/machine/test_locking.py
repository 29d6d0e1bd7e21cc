"""Memory that may be locked."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.machine import locking


def test_a_low_limit_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "limit", lambda: 8 << 20)
    locking.require(8 << 20)
    with pytest.raises(PlmEdgeError) as caught:
        locking.require(9 << 20)
    assert caught.value.code is ExitCode.RESOURCES
    assert "9 MiB" in caught.value.why
    assert "ulimit -l 9216" in caught.value.fix


def test_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "limit", lambda: None)
    locking.require(1 << 50)


@pytest.mark.parametrize(
    ("mask", "capable"), [("0000000000004000", True), ("0000000000003fff", False)]
)
def test_the_capability(tmp_path: Path, mask: str, capable: bool) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapEff:\t{mask}\n")
    assert locking._capable(status) is capable
    assert not locking._capable(tmp_path / "missing")
