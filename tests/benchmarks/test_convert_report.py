"""The section on conversion in BENCHMARKS.md."""

from __future__ import annotations

from benchmarks import report
from benchmarks.convert_report import section


def test_the_document_is_what_the_raw_samples_say() -> None:
    data = report.recorded("convert")
    document = report.PAGE.read_text(encoding="utf-8")
    assert section(data) in document
    assert "synthetic" in section(data)


def test_the_aims_were_reached() -> None:
    """Of the recorded run: no test measures time."""
    data = report.recorded("convert")
    samples = data["samples"]
    assert (data["quant"], data["threads"]) == ("q4_k_m", 2)
    for name in ("stock", "edge"):
        for ours, theirs in zip(samples[name], samples["upstream"], strict=True):
            assert ours["wall_s"] <= 0.8 * theirs["wall_s"]
            assert ours["peak_rss_bytes"] <= 600e6
