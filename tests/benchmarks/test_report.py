"""BENCHMARKS.md is what benchmarks/report.py makes of the recorded results."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kernels_figures, kernels_report, report
from benchmarks.campaign import ABLATIONS, CONFIGS
from benchmarks.hot_symbols import parse

RECORDED = Path(__file__).with_name("kernels-recorded.json")


@pytest.fixture
def data() -> dict[str, Any]:
    """A quick trial's result, of tiny-plm: its figures mean nothing, its form is the real one's."""
    found: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return found


def test_the_page_in_the_tree_is_made_from_the_results_in_the_tree() -> None:
    results = sorted(report.RESULTS.glob("*.json"))
    assert report.PAGE.is_file() == bool(results)
    if results:
        assert report.PAGE.read_text(encoding="utf-8") == report.page()


def test_each_result_stands_between_its_marks(tmp_path: Path) -> None:
    (tmp_path / "kernels.json").write_text(RECORDED.read_text())
    page = report.page(tmp_path)
    start, end = page.index("<!-- kernels -->"), page.index("<!-- /kernels -->")
    assert "## Kernels" in page[start:end]
    (tmp_path / "unknown.json").write_text("{}")
    with pytest.raises(KeyError, match="unknown"):
        report.page(tmp_path)


def test_the_section_says_all_that_was_measured(data: dict[str, Any]) -> None:
    text = kernels_report.section(data)
    assert "Synthetic weights" in text
    assert data["machine"]["cpu"] in text
    assert data["source"]["commit"][:12] in text
    for name in (*ABLATIONS, "stock: expanded cache, dense FFN"):
        assert f"| {name} |" in text
    for name in data["profiles"]:
        assert name in text


def test_a_target_is_reached_or_missed_in_plain_words(data: dict[str, Any]) -> None:
    data["quick"] = False
    slow, fast = copy.deepcopy(data), copy.deepcopy(data)
    for result, factor in ((slow, 100.0), (fast, 0.01)):
        for one in result["samples"]:
            if one["config"] in CONFIGS and one["config"].startswith("ours"):
                one["seconds"] *= factor
    missed, reached = (kernels_report._targets(result) for result in (slow, fast))
    assert missed.split("| KV")[0].count("**missed by") == 6
    assert "missed" not in reached.split("| KV")[0]


def test_a_ratio_is_of_the_turns_of_one_round() -> None:
    turns = [("ours", 0, 1.0), ("stock", 0, 2.0), ("ours", 1, 4.0), ("stock", 1, 4.0)]
    data = {
        "samples": [
            {"setting": "prefill", "config": config, "depth": depth, "tokens": 512,
             "seconds": seconds / 2, "round": round_}
            for config, round_, seconds in turns
            for depth in (0, 512)
        ]
    }  # fmt: skip
    found = kernels_figures.ratio(data, "prefill", 1024, "ours", "stock")
    assert found == kernels_figures.Spread(1.5, 1.0, 2.0, 2)
    # the first turn of a long prefill is a short one
    short = kernels_figures.speed(data, "prefill", 512, "ours")
    assert short is not None
    assert (short.low, short.high) == (256.0, 1024.0)
    assert kernels_figures.ratio(data, "decode", 0, "ours", "stock") is None


def test_stocks_fastest_setting_is_what_ours_is_held_against() -> None:
    seconds = {"stock": 2.0, "stock, K in q8_0": 1.0, "ours": 0.5}
    data = {
        "samples": [
            {
                "setting": "decode",
                "config": config,
                "depth": 0,
                "tokens": 1,
                "seconds": s,
                "round": 0,
            }
            for config, s in seconds.items()
        ]
    }  # fmt: skip
    assert kernels_figures.best_stock(data, "decode", 0) == "stock, K in q8_0"
    found = kernels_figures.ratio(data, "decode", 0, "ours")
    assert found is not None
    assert found.middle == 2.0


def test_a_share_is_of_the_bandwidth_beside_its_turn(data: dict[str, Any]) -> None:
    turns = [one for one in data["samples"] if one["config"] == "ours" and one["depth"] == 0]
    turns = [one for one in turns if one["setting"] == "decode"]
    before = kernels_figures.bandwidth_share(data, "ours", 0)
    for one in turns:
        one["read_gb_s"] *= 2
    after = kernels_figures.bandwidth_share(data, "ours", 0)
    assert before is not None
    assert after is not None
    assert after.middle == pytest.approx(before.middle / 2)
    turns[0]["seconds"] = 1e-9  # one turn that the others do not follow
    spread = kernels_figures.bandwidth_share(data, "ours", 0)
    assert spread is not None
    assert spread.high > 1000 * spread.low


def test_perf_lines_are_read() -> None:
    text = (
        "# Overhead  Symbol                     Shared Object\n"
        "    41.25%  [.] mla_tile<8, true>(int)  libggml-cpu.so\n"
        "     3.00%  [k] clear_page              [kernel.kallsyms]\n"
    )
    assert parse(text) == [
        (41.25, "mla_tile<8, true>(int)", "libggml-cpu.so"),
        (3.0, "clear_page", "[kernel.kallsyms]"),
    ]
