"""The section of BENCHMARKS.md on loading, from results/load.json."""

from __future__ import annotations

from typing import Any

from benchmarks import origin
from benchmarks.kernels_figures import Spread
from benchmarks.markdown import table_head, table_row

ASKED_S = 0.4  # of a warm load
MIB = 1 << 20
STATES = {
    "huge": "in huge pages",
    "small": "in small pages",
    "cold": "not there",
}
STAGES = {
    "imports": "start of Python, imports",
    "header": "header",
    "check": "check",
    "engine": "engine's library",
    "model": "weights and vocabulary",
    "context": "context",
}


def section(data: dict[str, Any]) -> str:
    """Markdown. `data` is a result of benchmarks/load.py, schema …/benchmark-load/1."""
    where, sizes = data["machine"], data["model_bytes"]
    stock = f", stock's {sizes['stock'] / 1e6:,.0f} MB" if "stock" in sizes else ""
    return (
        "## Loading\n\n"
        f"**Synthetic weights** of PLM-1.8B's shapes: ours are {sizes['edge'] / 1e6:,.0f} MB"
        f"{stock}. Seconds until the first token can be computed, each load in a process of its "
        "own, in turns; median and range of "
        f"{1 + max(one['round'] for one in data['samples'])}. plm-edge is `Session.open`, "
        "engine the engine alone, server llama-server as `plm-edge serve` starts it, until it "
        "answers. Before a load the file was in the page cache, in pages of either "
        f"size, or not. Decoded are {data['tokens']} tokens right after the load.\n\n"
        f"{where['cpu']}, CPUs: {where['cpus']}, threads: {where['threads']}, kernel "
        f"{where['kernel']}, {where['file_system']}, {data['date'][:10]}. "
        f"{origin.said_again(data)} With more load than CPUs the machine was busy with other "
        "programs.\n\n"
        + "\n".join(_rows(data))
        + "\n\n"
        + _absent(data)
        + _stages(data)
        + _rest(data)
    )


def _rows(data: dict[str, Any]) -> list[str]:
    rows = table_head(
        "in the page cache", "", "load, s", "decode, t/s", "peak RSS", "of it the file's"
    )
    for state, shown in STATES.items():
        for side in _sides(data, state):
            found = _samples(data, state, side)
            load = Spread.of([one["load_s"] for one in found])
            peak = max(one["VmHWM"] for one in found)
            rows.append(
                f"| {shown} | {side} | {load.show()} | "
                f"{Spread.of([one['decode_tps'] for one in found]).show(1)} | "
                f"{peak / MIB:,.0f} MiB | {found[-1]['RssFile'] / MIB:,.0f} MiB |"
            )
    return rows


def _absent(data: dict[str, Any]) -> str:
    lines = [f"Not measured {STATES[state]}: {why}." for state, why in data["absent"].items()]
    warm = [
        (STATES[state], Spread.of([one["load_s"] for one in _samples(data, state, "plm-edge")]))
        for state in ("huge", "small")
        if _samples(data, state, "plm-edge")
    ]
    for shown, load in warm:
        verdict = "reached" if load.middle <= ASKED_S else f"**missed: {load.middle:.2f} s**"
        lines.append(f"Asked of a warm load: {ASKED_S} s; {shown} {verdict}.")
    return " ".join(lines) + "\n\n"


def _stages(data: dict[str, Any]) -> str:
    states = [state for state in STATES if _samples(data, state, "plm-edge")]
    rows = table_head("plm-edge, s", *(STATES[state] for state in states))
    for stage, shown in STAGES.items():
        cells = []
        for state in states:
            found = _samples(data, state, "plm-edge")
            of_stage = [
                one["imports_s"] if stage == "imports" else one["stages"].get(stage, 0.0)
                for one in found
            ]
            cells.append(Spread.of(of_stage).show(3))
        rows.append(table_row([shown, *cells]))
    return "\n".join(rows) + "\n\n"


def _rest(data: dict[str, Any]) -> str:
    vocabularies = ", ".join(
        f"{side} {Spread.of(found).show(3)} s" for side, found in data["vocabulary_s"].items()
    )
    text = f"The vocabulary alone, header included: {vocabularies}. "
    disk = [rate for rate in data["disk_gb_s"] if rate is not None]
    cold = _samples(data, "cold", "engine")
    if disk and cold:
        rate = data["model_bytes"]["edge"] / 1e9 / Spread.of([c["load_s"] for c in cold]).middle
        text += (
            f"The disk gives {Spread.of(disk).show()} GB/s to four threads that read the file, "
            f"and a cold load of the engine takes it at {rate:.2f}."
        )
    return text + "\n"


def _samples(data: dict[str, Any], state: str, side: str) -> list[dict[str, Any]]:
    return [one for one in data["samples"] if (one["state"], one["side"]) == (state, side)]


def _sides(data: dict[str, Any], state: str) -> list[str]:
    return sorted({one["side"] for one in data["samples"] if one["state"] == state})
