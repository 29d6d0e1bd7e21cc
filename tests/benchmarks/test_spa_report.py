"""The section on SPA: what it makes of figures, and what it leaves out."""

from __future__ import annotations

from typing import Any

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


def link(tps: float, up: int = 90) -> dict[str, Any]:
    points = [
        {
            "rtt_ms": rtt, "rate": max(rate, 0.0), "ping_pong": rate < 0, "rounds": 3 * [{
                "tps": tps, "overrides": round(64 * max(rate, 0.0)), "cpu_s_a_token": 0.001,
                "rss_mib": 60.0, "bytes_down_a_token": 868.0, "bytes_up": up, "prompt": 9,
                "longest_s": 0.1, "resumed": 0, "direct_tps": None if rate else 21.0,
            }],
        }
        for rtt in (0, 100)
        for rate in (-1.0, 0.0, 0.02, 0.2)
    ]  # fmt: skip
    return {**WHERE, "points": points, "tokens": 64}


def test_the_formula_stands_beside_what_was_measured() -> None:
    text = spa_report.section({"link": link(20.0)})
    # 1 / (1 / 21 + 0.101), 1 / 21, and of 64 tokens 1 and 13 overrides
    assert (
        "| 100 ms | 20.0 (6.7) | 20.0 (21.0) | 0.95 (0.95 to 0.95) | 20.0 (20.3) | 20.0 (14.7) |"
        in text
    )
    assert "every round trip: met" in text
    assert "16 tokens: met" in text
    assert "perplexity" not in text
    assert "kept to one of them" not in text


def test_energy_is_told_where_there_is_a_meter() -> None:
    part = link(20.0)
    assert "no meter" in spa_report.section({"link": part})
    for point in part["points"]:
        for found in point["rounds"]:
            found["joules_a_token"] = 2.5 if point["rate"] == 0 and not point["ping_pong"] else 9.0
    text = spa_report.section({"link": part | {"meters": ["package-0"]}})
    assert "a token took 2.5 ± 0.0 J by package-0" in text
    assert "no meter" not in text


def test_what_a_link_misses() -> None:
    text = spa_report.section({"link": link(19.0, up=64 + 36 + 32 + 1) | {"device_cpus": 1}})
    assert "kept to one of them" in text
    assert "every round trip: missed" in text
    assert "16 tokens: missed" in text


def test_the_longest_wait_is_shown() -> None:
    gaps = {"server": [0.1, 1.9], "here": [1.3, 1.2]}
    part = {**WHERE, "seconds": {"stall": gaps}, "tokens": 64, "rtt_ms": 20}
    text = spa_report.section({"loss": part})
    assert "| stall | 1.90 s | 1.30 s |" in text
    assert "within 2 s: met" in text
    assert "first token" not in text
    part |= {"opening": {"none": {"server": 0.4, "here": 0.7}, "reset": dict.fromkeys(gaps, 1.0)}}
    text = spa_report.section({"loss": part})
    assert "| not harmed | 0.40 s | 0.70 s |" in text
    assert "| reset | 1.00 s | 1.00 s |" in text


def test_perplexities_are_shares_of_the_base() -> None:
    rows = [
        {"name": "base", "size": 0, "personal": [50.0, 50.0], "general": [10.0, 10.0]},
        {"name": "both", "size": 9, "personal": [20.0, 30.0], "general": [10.0, 11.0]},
    ]
    part = {**WHERE, "rows": rows, "seeds": 2, "trained": 1, "personal": 2, "general": 3}
    text = spa_report.section({"worth": {**part, "commit": "abc"}})
    assert "| both | 9 | 25.0 ± 7.1 | 0.50 | 10.5 ± 0.7 | 1.05 |" in text


def test_what_states_cost() -> None:
    times = {"without": [0.1, 0.1, 0.2], "layers and final": [0.125, 0.125, 0.2]}
    one = {"name": "m.gguf", "layers": [1, 2], "seconds_a_token": times}
    text = spa_report.section({"states": {**WHERE, "models": [one]}})
    assert "| m.gguf | layers and final | 8.0 | 0.800 |" in text


def test_what_was_wanted_of_a_plugin() -> None:
    def row(name: str, personal: float, general: float) -> dict[str, object]:
        return {"name": name, "size": 1, "personal": [personal], "general": [general]}

    rows = [row("base", 50, 10), row("both memories alone, gate", 31, 10), row("LoRA", 29, 11),
            row("side and memories", 30, 10.6)]  # fmt: skip
    lora = {"rank": 2, "lora": [{"steps": 9, "epochs": 3, "best_epoch": 1}]}
    part = {**WHERE, **lora, "rows": rows, "seeds": 1, "trained": 1, "personal": 2, "general": 3}
    part["commit"] = "abc"
    text = spa_report.section({"worth": part})
    assert "together. At most 0.6 of the base's personal perplexity: met; better than" in text
    assert "memory alone: met; general at most 1.05: missed; better than LoRA: missed." in text
    assert "with 1 of the seeds, has rank 2 on all queries and values; its trainings" in text
    assert "took 9 steps of 512 tokens, and held-back text chose the passes 1 of 3." in text


def test_minutes_of_a_training() -> None:
    one = {"name": "m.gguf", "tokens": 20000, "codec_s": 6.0, "read_s": 60.0, "train_s": 90.0,
           "all_s": 156.0, "size": 2_500_000, "peak_rss_bytes": 2**28}  # fmt: skip
    text = spa_report.section({"train": {**WHERE, "models": [one]}})
    assert "| m.gguf | 20,000 | 0.1 min | 1.0 min | 1.5 min | 2.6 min | 2.5 MB | 256 MiB |" in text


def test_the_results_in_the_tree() -> None:
    data = report.recorded("spa")
    assert data["schema"] == "plm-edge/benchmark-spa/1"
    rows = data["worth"]["rows"]
    counts = {len(row["personal"]) for row in rows if "torch" not in row["name"]}
    assert counts <= {data["worth"]["seeds"], len(data["worth"]["lora"])}
    assert data["worth"]["seeds"] >= 3
    assert rows[0]["name"] == "base"
    assert rows[0]["personal"][0] == pytest.approx(rows[0]["personal"][1])
    link = data["link"]
    for point in link["points"]:
        for found in point["rounds"]:
            assert found["resumed"] == 0
            assert found["rss_mib"] <= 95
            if not point["ping_pong"]:
                assert found["bytes_up"] <= spa_report.most_up(found, link["tokens"])
            if point["rate"] == 0:
                assert found["bytes_down_a_token"] <= 900
    for kinds in data["loss"]["seconds"].values():
        assert max(max(gaps) for gaps in kinds.values()) <= 2
