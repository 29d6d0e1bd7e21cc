"""The section on loading: which samples its figures come from."""

from __future__ import annotations

from typing import Any

from benchmarks import load_report

MEMORY = {"VmHWM": 1300 << 20, "RssAnon": 200 << 20, "RssFile": 1100 << 20}


def sample(state: str, side: str, round_: int, load: float) -> dict[str, Any]:
    stages = {"model": load - 0.1, "header": 0.03}
    found = {"state": state, "side": side, "round": round_, "load_s": load, "stages": stages}
    return {**found, "imports_s": 0.2, "decode_tps": 10 * load, **MEMORY}


DATA: dict[str, Any] = {
    "machine": {"cpu": "a CPU", "cpus": 2, "threads": 2, "kernel": "6.18", "file_system": "ext4"},
    "load_average": {"before": [0.1, 0.2, 0.3], "after": [1, 1, 1]},
    "date": "2026-01-02T03:04:05+00:00",
    "command": "python -m benchmarks.load",
    "source": {"commit": "0123456789abcdef", "changed": False},
    "model_bytes": {"edge": 1_000_000_000, "stock": 1_200_000_000},
    "tokens": 16,
    "samples": [
        *(sample("huge", "plm-edge", n, load) for n, load in enumerate((0.2, 0.3, 0.25))),
        *(sample("small", "plm-edge", n, load) for n, load in enumerate((0.5, 0.41, 0.6))),
        sample("small", "stock, read", 0, 2.0),
        sample("cold", "engine", 0, 0.5),
    ],
    "absent": {},
    "vocabulary_s": {"engine": [0.1, 0.12, 0.11]},
    "disk_gb_s": [1.9, 2.1, None],
}


def test_the_section() -> None:
    text = load_report.section(DATA)
    assert "| in huge pages | plm-edge | 0.25 (0.20 to 0.30) | 2.5 (2.0 to 3.0) |" in text
    assert "in huge pages reached" in text
    assert "in small pages **missed: 0.50 s**" in text
    assert "| weights and vocabulary | 0.150 (0.100 to 0.200) | 0.400 (0.310 to 0.500) |" in text
    assert "stock" in text
    assert "a cold load of the engine takes it at 2.00" in text
    assert "engine 0.110 (0.100 to 0.120) s" in text


def test_what_could_not_be_measured_is_said() -> None:
    samples = [one for one in DATA["samples"] if one["state"] == "small"]
    absent = {"huge": "3 % of the file come in huge pages"}
    text = load_report.section(DATA | {"samples": samples, "absent": absent, "disk_gb_s": [None]})
    assert "Not measured in huge pages: 3 % of the file come in huge pages." in text
    assert "| in huge pages |" not in text
    assert "disk" not in text.partition("The vocabulary alone")[2]
