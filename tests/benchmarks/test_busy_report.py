"""The section on busy machines: which rates its figures come from."""

from __future__ import annotations

from typing import Any

from benchmarks import busy_report


def sample(round_: int, engine: str, beside: int, decode: float) -> dict[str, Any]:
    rates = {"decode_tps": decode, "prefill_tps": 2 * decode}
    return {"round": round_, "engine": engine, "beside": beside, **rates}


DATA: dict[str, Any] = {
    "model": "a.gguf",
    "machine": {"cpu": "a CPU", "cpus": 2, "threads": 2, "kernel": "6.1"},
    "autogroup": "1",
    "load_average": {"before": [0.1, 0.2, 0.3], "after": [1, 1, 1]},
    "date": "2026-01-02T03:04:05+00:00",
    "command": "python -m benchmarks.busy a.gguf",
    "source": {"commit": "0123456789abcdef", "changed": False},
    "tokens": 32,
    "prompt": 128,
    "samples": [
        # in another order than the rounds: turns alternate
        *(sample(1, "ours", n, rate) for n, rate in ((0, 20.0), (1, 12.0), (2, 6.0))),
        *(sample(0, "ours", n, rate) for n, rate in ((0, 10.0), (1, 7.0), (2, 4.0))),
        *(sample(0, "before", n, rate) for n, rate in ((0, 8.0), (1, 0.5), (2, 0.5))),
        *(sample(1, "before", n, rate) for n, rate in ((0, 20.0), (1, 0.5), (2, 0.5))),
    ],
    "computing": [
        {"round": round_, "beside": beside, "pieces_per_s": rate}
        for round_, rates in ((1, (300.0, 150.0, 120.0)), (0, (100.0, 50.0, 30.0)))
        for beside, rate in enumerate(rates)
    ],
    "threads": [
        {"round": 0, "threads": 1, "decode_tps": 6.0},
        {"round": 0, "threads": 2, "decode_tps": 10.0},
        {"round": 0, "threads": 8, "decode_tps": 5.5},
    ],
}


def test_shares_are_of_the_same_round() -> None:
    found = busy_report.shares(DATA, "ours", 1, "decode_tps")
    assert (found.low, found.high) == (0.6, 0.7)


def test_the_section() -> None:
    text = busy_report.section(DATA)
    assert (
        "| decode, ours | 15.0 (10.0 to 20.0) | 9.5 (7.0 to 12.0) | 0.65 (0.60 to 0.70) |" in text
    )
    assert "ours decodes 1.12 (1.00 to 1.25) times as fast as the build before" in text
    only = "| 2 threads that only compute |  |  | 0.50 (0.50 to 0.50) |  | 0.35 (0.30 to 0.40) |"
    assert only in text
    assert "| 8 | 5.5 (5.5 to 5.5) | 0.55 |" in text
    assert "scheduling by sessions on" in text
