"""tiny-plm's GGUFs are what they were: every key and every tensor, and not one more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.converters import golden

HOW = "if that is intended: python -m tests.converters.golden, and read the difference"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(golden.make()))
    return made


@pytest.mark.parametrize("part", ["keys", "tensors"])
@pytest.mark.parametrize("case", [f"{quant} {layout}" for quant, layout in golden.CASES])
def test_golden(found: dict[str, Any], case: str, part: str) -> None:
    expected = json.loads(golden.FILE.read_text(encoding="utf-8"))
    assert set(expected) == set(found), HOW
    assert list(found[case][part]) == list(expected[case][part]), HOW
    for name, value in found[case][part].items():
        assert value == expected[case][part][name], f"{name}: {HOW}"
