"""The section on several tokens at once: which figures stand where."""

from __future__ import annotations

from typing import Any

from benchmarks import speculation_report

READ = {"1": 0.2, "2": 0.35}
DATA: dict[str, Any] = {
    "model": "a.gguf",
    "synthetic": True,
    "kv": "f16",
    "machine": {"cpu": "a CPU", "cpus": 2, "threads": 2},
    "load_average": {"before": [0.1, 0.2, 0.3], "after": [1, 1, 1]},
    "date": "2026-01-02T03:04:05+00:00",
    "command": "python -m benchmarks.speculation a.gguf --steps",
    "source": {"commit": "0123456789abcdef", "changed": False},
    "tasks": {},
    "step": {
        "64": {"ratios": {"2": [1.2, 1.5, 1.4]}, "low_read": READ},
        "1024": {"ratios": {"2": [1.3]}, "low_read": READ},
    },
}


def test_the_section() -> None:
    text = speculation_report.section(DATA)
    assert "| 1 | 1 | 1 | 1.00 | 20 % |" in text
    assert "| 2 | 1.40 (1.20 to 1.50) | 1.30 (1.30 to 1.30) | 0.70 | 35 % |" in text
    assert "with guesses" not in text
    assert "**Synthetic weights**" in text


def test_tasks_stand_below() -> None:
    task = {"ratios": [1.0, 1.2], "accepted": 3, "drafted": 4, "tokens": 9}
    text = speculation_report.section(DATA | {"tasks": {"tell": task}, "synthetic": False})
    assert "| tell | 1.10 (1.00 to 1.20) | 3 of 4 | 9 |" in text
    assert "Synthetic" not in text
