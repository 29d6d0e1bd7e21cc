"""The examples of docs/python.md run as they stand there, one after the other."""

from __future__ import annotations

import re

import pytest

from testkit.checkout import ROOT

PAGE = ROOT / "docs" / "python.md"


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    blocks = [*re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]
    assert len(blocks) >= 7
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "length" in said
    assert "a base model takes no" in said
