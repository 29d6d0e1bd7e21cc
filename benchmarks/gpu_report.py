"""The section of BENCHMARKS.md on a GPU, from results/gpu-NAME.json (benchmarks/gpu_check.py)."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks import origin
from benchmarks.markdown import table_head, table_row
from plm_edge.base import console
from plm_edge.bench.result.shape import is_gpu

SHORT, LONG = 0, 16384
# how many times the best stock setting: decode by depth, and prompts at any
DECODE_BARS = {SHORT: 1.2, LONG: 1.3}
PREFILL_BAR = 0.95
NOT_REACHED = "not reached in the minutes"


def section(data: dict[str, Any]) -> str:
    """Markdown. `data` is a result of benchmarks/gpu_check.py, schema …/benchmark-gpu/2."""
    parts = [_head(data), _speeds(data), _bars(data), _products(data), _right(data), _memory(data)]
    return "\n\n".join(part for part in parts if part)


def _head(data: dict[str, Any]) -> str:
    gpu = data["gpu"]
    about = [gpu["name"]]
    if "driver_version" in gpu:
        about += [gpu["memory.total"], f"driver {gpu['driver_version']}"]
    dry = " (dry run: no figure to report)" if data["dry"] else ""
    sizes = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in data["bytes"].items())
    return (
        f"## GPU: {gpu['name']}{dry}\n\n"
        f"{', '.join(about)}; {data['machine']['cpu']}, {data['date'][:10]}. Files: {sizes}. All "
        f"layers on the GPU. {origin.said_commit(data)}. Measure it again: `make gpu-check`."
    )


def _speeds(data: dict[str, Any]) -> str:
    """Medians by depth, cache and kind: edge, our stock layout, stock llama.cpp."""
    names = list(dict.fromkeys(one["file"] for one in data["speeds"]))
    lines = table_head("t/s, median", "cache", *names, "edge / best other")
    for depth, cache, kind in _rows(data):
        rates = [_rate(data, name, depth, cache, kind) for name in names]
        shown = [NOT_REACHED if rate is None else f"{rate:,.1f}" for rate in rates]
        ratio = _ratio(data, depth, kind, cache)
        times = "" if ratio is None else f"{ratio:.2f}"
        lines.append(table_row([f"{_name(kind)} @ {depth}", cache, *shown, times]))
    return "\n".join(lines)


def _rows(data: dict[str, Any]) -> Iterator[tuple[int, str, tuple[int, int]]]:
    seen = set()
    for one in data["speeds"]:
        for result in one["results"] or []:
            row = one["depth"], one["cache"], (result["n_prompt"], result["n_gen"])
            if row not in seen:
                seen.add(row)
                yield row


def _name(kind: tuple[int, int]) -> str:
    return f"pp{kind[0]}" if kind[0] else f"tg{kind[1]}"


def _rate(
    data: dict[str, Any], name: str, depth: int, cache: str, kind: tuple[int, int]
) -> float | None:
    for one in data["speeds"]:
        if (one["file"], one["depth"], one["cache"]) == (name, depth, cache):
            for result in one["results"] or []:
                if (result["n_prompt"], result["n_gen"]) == kind:
                    return float(median(result["t_s"]))
    return None


def _ratio(
    data: dict[str, Any], depth: int, kind: tuple[int, int], cache: str | None = None
) -> float | None:
    """Edge against the best other; with None for the cache, of all caches the best of each."""
    ours: list[float] = []
    others: list[float] = []
    for one in data["speeds"]:
        if one["depth"] == depth and cache in (None, one["cache"]):
            rate = _rate(data, one["file"], depth, one["cache"], kind)
            if rate is not None:
                (ours if one["file"] == "edge" else others).append(rate)
    return max(ours) / max(others) if ours and others else None


def _bars(data: dict[str, Any]) -> str:
    """What was to be reached, and what was."""
    kinds = [kind for _, _, kind in _rows(data)]
    tokens = next((kind for kind in kinds if kind[1]), None)
    wanted = [
        (f"decode at {depth}", tokens and _ratio(data, depth, tokens), bar)
        for depth, bar in DECODE_BARS.items()
    ]
    for kind in dict.fromkeys(kind for kind in kinds if kind[0]):
        wanted.append((f"{_name(kind)} at {SHORT}", _ratio(data, SHORT, kind), PREFILL_BAR))
    return "\n".join(f"- {name}: {_verdict(found, bar)}" for name, found, bar in wanted)


def _verdict(found: float | None, bar: float) -> str:
    if found is None:
        return f"wanted {bar:.2f} times the best other, {NOT_REACHED}"
    word = "reached" if round(found, 2) >= bar else "**missed**"
    return f"{found:.2f} times the best other, wanted {bar:.2f}: {word}"


def _products(data: dict[str, Any]) -> str:
    """The down projection alone: microseconds, sparse and dense."""
    lines = table_head("down projection, µs, sparse / dense", "0 %", "50 %", "90 %", "95 %")
    for name, said in data["products"].items():
        if not isinstance(said, dict):
            lines.append(f"| {name} | {NOT_REACHED if said is None else 'failed'} | | | |")
            continue
        cells = [f"{_us(one['sparse'])} / {_us(one['dense'])}" for one in said["found"]]
        lines.append(table_row([name, *cells]))
    return "\n".join(lines)


def _us(times: dict[str, Any] | None) -> str:
    if times is None:
        return "not there"
    return f"{1e6 * median(times['seconds']):.1f}{'' if times['same'] else ' (other bits)'}"


def _right(data: dict[str, Any]) -> str:
    """Whether it computes what the CPU does."""
    lines = []
    for name, said in data["operations"].items():
        if said is None:
            lines.append(f"- {name}: {NOT_REACHED}")
        else:
            verdict = f"**{len(said['failed'])} failed**" if said["failed"] else "none failed"
            lines.append(f"- {name} against the CPU: {said['cases']} cases, {verdict}")
    for name, said in data["answers"].items():
        same = said["repeats_are_the_same"]
        if same is None:
            lines.append(f"- greedy tokens, {name}: {NOT_REACHED}")
            continue
        word = "the same" if same else "**not the same**"
        lines.append(
            f"- greedy tokens, {name}: three times and without CUDA graphs {word}; the first "
            f"{said['as_on_the_cpu']} are the CPU's"
        )
    cpu, gpu = data["logits"]["cpu"], data["logits"]["gpu"]
    if isinstance(cpu, dict) and isinstance(gpu, dict):
        finite = "finite" if gpu["finite"] else "**not finite**"
        same = sum(a == b for a, b in zip(cpu["likeliest"], gpu["likeliest"], strict=True))
        lines.append(
            f"- with neurons up to {cpu['largest_neuron']:,.0f} (f16 holds 65,504) logits are "
            f"{finite}; {same} of {len(cpu['likeliest'])} likeliest tokens are the CPU's"
        )
    else:
        lines.append(f"- logits with large neurons: {NOT_REACHED}")
    return "\n".join(lines)


def _memory(data: dict[str, Any]) -> str:
    """What `plm-edge bench` said of memory, splits and energy."""
    lines = table_head("`plm-edge bench`", "weights", "KV cache", "compute", "splits", "J/token")
    for name, said in data["tool"].items():
        if not isinstance(said, dict):
            lines.append(f"| {name} | {NOT_REACHED if said is None else 'failed'} | | | | |")
            continue
        for point, found in said["points"].items():
            memory, joules = found["memory"], found["joules_a_token"]
            sizes = [
                _there(memory, key)
                for key in ("weights_bytes", "kv_by_buffer", "compute_by_buffer")
            ]
            splits = " / ".join(map(str, memory.get("splits") or ("-",)))
            energy = "not measured" if joules is None else f"{joules:.3f}"
            lines.append(table_row([f"{name}, {point}", *sizes, splits, energy]))
    return "\n".join(lines)


def _there(memory: dict[str, Any], key: str) -> str:
    sizes = memory.get(key) or {}
    return console.size(sum(size for kind, size in sizes.items() if is_gpu(kind)))
