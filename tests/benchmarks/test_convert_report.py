"""The section on conversion in BENCHMARKS.md."""

from __future__ import annotations

import json

import pytest

from benchmarks.convert_report import BEGIN, END, placed, section
from testkit.checkout import ROOT


def test_the_document_is_what_the_raw_samples_say() -> None:
    data = json.loads((ROOT / "benchmarks/results/convert.json").read_text())
    document = (ROOT / "BENCHMARKS.md").read_text()
    assert f"{BEGIN}\n{section(data)}{END}" in document
    assert "synthetic" in section(data)


def test_what_the_issue_asks_of_it_was_measured() -> None:
    """Of the recorded run: no test measures time."""
    data = json.loads((ROOT / "benchmarks/results/convert.json").read_text())
    samples = data["samples"]
    assert (data["quant"], data["threads"]) == ("q4_k_m", 2)
    for name in ("stock", "edge"):
        for ours, theirs in zip(samples[name], samples["upstream"], strict=True):
            assert ours["wall_s"] <= 0.8 * theirs["wall_s"]
            assert ours["peak_rss_bytes"] <= 600e6


def test_only_the_marked_part_is_replaced() -> None:
    document = f"# A\n\n{BEGIN}\nold\n{END}\n\n## B\n"
    assert placed(document, "new\n") == document.replace("old", "new")
    assert placed("# A\n", "new\n") == f"# A\n\n{BEGIN}\nnew\n{END}\n"
    for wrong in (f"{END}\n{BEGIN}\n", BEGIN, END):
        with pytest.raises(ValueError, match="once each"):
            placed(wrong, "new\n")
