"""BENCHMARKS.md's section on types: what it shows, and which rows it calls beaten."""

from __future__ import annotations

from typing import Any

from benchmarks import quality_report, report
from benchmarks.quality import merged
from plm_edge.converters.plan.recipes import RECIPES

EIGHTHS = [0.0, 1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4]


def row(
    layout: str, kl: float, size: int, imatrix: bool = False, more: float = 0.0
) -> dict[str, Any]:
    """`more`: what it has more than stock's; stock's own is not looked at."""
    return {
        "quant": "q4_k_m",
        "layout": layout,
        "imatrix": imatrix,
        "tensor_bytes": size,
        "bits_a_weight": 4.7,
        "perplexity": [12.5, 0.5],
        "kl": [kl, 0.001],
        "kl_less_stock": [more, 0.0002],
        "judged_tokens": 6120,
        "kl_p99": 0.2,
        "same_top": 0.91,
        "decode_s": None,
    }


def data(rows: list[dict[str, Any]]) -> dict[str, Any]:
    cache = {"by_position": EIGHTHS, "needle": -1.5, "elsewhere": -9.0}
    return {
        "rows": rows,
        "speed_machine": None,
        "long_context": {"n_ctx": 2048, "caches": {"q8_0": cache}},
        "pin": {"package": "llama-cpp-python", "version": "1"},
        "machine": {"cpu": "a CPU"},
        "plm_edge": "0.1.0",
        "python": "3.11",
    }


def test_a_row_is_beaten_by_bytes_divergence_and_speed() -> None:
    stock = row("stock", 0.02, 1000)
    for more, size, expected in (
        (0.0005, 1000, ["q4_k_m"]),  # two and a half standard errors of the difference
        (0.0005, 999, []),  # smaller
        (0.0003, 1000, []),  # within the error
        (-0.01, 1000, []),
    ):
        edge = row("edge", 0.02 + more, size, more=more)
        assert quality_report.dominated([stock, edge]) == expected
        stock["decode_s"], edge["decode_s"] = [0.002], [0.001]
        assert quality_report.dominated([stock, edge]) == []  # faster
        edge["decode_s"] = [0.002]
        assert quality_report.dominated([stock, edge]) == expected
        stock["decode_s"] = None


def test_no_row_of_ours_is_beaten() -> None:
    found = report.recorded("quality")
    assert quality_report.dominated(found["rows"]) == []
    ours = {(one["quant"], one["imatrix"]): one for one in found["rows"] if one["layout"] == "edge"}
    for one in found["rows"]:
        assert ours[one["quant"], one["imatrix"]]["tensor_bytes"] <= one["tensor_bytes"]
    assert {one["quant"] for one in found["rows"]} == set(RECIPES)


def test_the_section() -> None:
    rows = [row("stock", 0.02, 1000), row("edge", 0.03, 1000, more=0.01)]
    rows += [row("stock", 0.015, 1000, True), row("edge", 0.01, 1000, True, more=-0.005)]
    text = quality_report.section(data(rows))
    assert (
        "| q4_k_m | 0.02000 ± 0.00100, 1,000 | 0.03000 ± 0.00100, 1,000 | +50.0 ± 1.0 % "
        "| 0.01500 ± 0.00100, 1,000 | 0.01000 ± 0.00100, 1,000 | -33.3 ± 1.3 % |"
    ) in text
    rows[0]["decode_s"] = [0.004, 0.001, 0.002]
    timed = data(rows) | {"speed_machine": {"cpu": "a quiet CPU"}}
    text = quality_report.section(timed)
    assert "| 91.0 % | 500 |" in text  # the median
    assert "on 1 thread of a quiet CPU." in text
    assert "decode no slower): q4_k_m." in text
    assert "farther from the original: none." in text
    rows[1]["decode_s"] = [0.0016]
    text = quality_report.section(timed)
    assert "decode no slower): none of ours." in text
    assert "farther from the original: q4_k_m (+50.0 ± 1.0 %, +25% t/s)." in text
    assert "| cache | 256 | 512 |" in text
    assert "| q8_0 | 0 | 0.0001 |" in text
    assert "quality.svg" in text


def test_a_speed_stays_while_the_file_is_of_its_size() -> None:
    before = [row("stock", 0.02, 1000), row("edge", 0.01, 900)]
    for one in before:
        one["decode_s"] = [0.001]
    other = row("stock", 0.3, 500) | {"quant": "q2_k"}
    now = [row("stock", 0.021, 1000), row("edge", 0.011, 890)]
    found = merged([other, *before], now)
    assert [one["quant"] for one in found] == ["q4_k_m", "q4_k_m", "q2_k"]
    assert [one["kl"][0] for one in found] == [0.021, 0.011, 0.3]
    assert [one["decode_s"] for one in found] == [[0.001], None, None]


def test_the_plot() -> None:
    rows = [row("stock", 0.02, 1000), row("edge", 0.01, 900)]
    rows += [row("stock", 0.02, 1000, True), row("edge", 0.01, 900, True)]
    assert quality_report.plot(data(rows)).startswith("<svg")
