"""BENCHMARKS.md's section on types: what it shows, and which rows it calls beaten."""

from __future__ import annotations

from typing import Any

from benchmarks import quality_report

EIGHTHS = [0.0, 1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4]


def row(layout: str, kl: float, size: int, imatrix: bool = False) -> dict[str, Any]:
    return {
        "quant": "q4_k_m",
        "layout": layout,
        "imatrix": imatrix,
        "tensor_bytes": size,
        "bits_a_weight": 4.7,
        "perplexity": [12.5, 0.5],
        "kl": [kl, 0.001],
        "kl_p99": 0.2,
        "same_top": 0.91,
        "decode_s": None,
    }


def data(rows: list[dict[str, Any]]) -> dict[str, Any]:
    cache = {"by_position": EIGHTHS, "needle": -1.5, "elsewhere": -9.0}
    return {
        "judged_tokens": 6120,
        "rows": rows,
        "long_context": {"n_ctx": 2048, "caches": {"q8_0": cache}},
        "pin": {"package": "llama-cpp-python", "version": "1"},
        "machine": {"cpu": "a CPU"},
        "plm_edge": "0.1.0",
        "python": "3.11",
    }


def test_a_row_is_beaten_by_as_few_bytes_and_surely_less_divergence() -> None:
    stock = row("stock", 0.02, 1000)
    for kl, size, expected in (
        (0.03, 1000, ["q4_k_m"]),  # ten standard errors more, as many bytes
        (0.03, 999, []),  # smaller
        (0.021, 1000, []),  # within the error
        (0.01, 1000, []),
        (0.02 + 1e-6, 1000, []),
    ):
        assert quality_report.dominated([stock, row("edge", kl, size)]) == expected


def test_the_section() -> None:
    rows = [row("stock", 0.02, 1000), row("edge", 0.03, 1000), row("edge", 0.01, 1000, True)]
    rows.append(row("stock", 0.015, 1000, True))
    text = quality_report.section(data(rows))
    assert (
        "| q4_k_m | 0.02000 ± 0.00100, 1,000 | 0.01500 ± 0.00100, 1,000 "
        "| 0.03000 ± 0.00100, 1,000 | 0.01000 ± 0.00100, 1,000 |"
    ) in text
    assert "standard errors): q4_k_m." in text
    assert "| cache | 256 | 512 |" in text
    assert "| q8_0 | 0 | 0.0001 |" in text
    assert "quality.svg" in text


def test_the_plot() -> None:
    rows = [row("stock", 0.02, 1000), row("edge", 0.01, 900)]
    rows += [row("stock", 0.02, 1000, True), row("edge", 0.01, 900, True)]
    assert quality_report.plot(data(rows)).startswith("<svg")
