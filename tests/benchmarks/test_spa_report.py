"""The section on SPA: what it makes of figures, and what it leaves out."""

from __future__ import annotations

import json

import pytest

from benchmarks import report, spa_report

WHERE = {
    "machine": {"cpu": "a CPU", "threads": 1, "cpus": 2},
    "source": {"commit": "0" * 40, "changed": False},
    "load_average": {"before": [1.5]},
    "date": "2026-01-01T00:00:00+00:00",
    "command": "python -m benchmarks.spa x",
    "model": "m.gguf",
}


def test_the_formula_stands_beside_what_was_measured() -> None:
    points = [
        {
            "rtt_ms": rtt, "rate": rate, "tps": 20.0, "overrides": round(64 * rate),
            "cpu_s_a_token": 0.001, "rss_mib": 60.0, "bytes_down_a_token": 868.0, "bytes_up": 90,
        }
        for rtt in (0, 100)
        for rate in (0.0, 0.02, 0.2, 1.0)
    ]  # fmt: skip
    data = {"link": {**WHERE, "points": points, "tokens": 64, "direct": {"tps": 21.0}}}
    text = spa_report.section(data)
    # 1 / (0.05 + 1 · 0.101) and 1 / 0.05
    assert "| 100 ms | 20.0 (6.6) | 20.0 (20.0) |" in text
    assert "perplexity" not in text


def test_perplexities_are_shares_of_the_base() -> None:
    rows = [
        {"name": "base", "size": 0, "personal": [50.0, 50.0], "general": [10.0, 10.0]},
        {"name": "both", "size": 9, "personal": [20.0, 30.0], "general": [10.0, 11.0]},
    ]
    part = {**WHERE, "rows": rows, "seeds": 2, "trained": 1, "personal": 2, "general": 3}
    text = spa_report.section({"worth": {**part, "commit": "abc"}})
    assert "| both | 9 | 25.0 ± 7.1 | 0.50 | 10.5 ± 0.7 | 1.05 |" in text


def test_the_results_in_the_tree() -> None:
    path = report.RESULTS / "spa.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["schema"] == "plm-edge/benchmark-spa/1"
    names = {row["name"]: row for row in data["worth"]["rows"]}
    assert len(names["side and memory"]["personal"]) >= 3
    base = names["base"]["personal"][0]
    assert base == pytest.approx(names["base"]["personal"][1])
