"""The section of BENCHMARKS.md on other models of PLM's size, from results/peers.json."""

from __future__ import annotations

from typing import Any

from benchmarks import origin
from benchmarks.kernels_figures import Spread, ratio, speed
from benchmarks.markdown import table_head, table_row
from benchmarks.peers_turns import Setting

MIB = 1 << 20


def section(data: dict[str, Any]) -> str:
    """Markdown. `data` is a result of benchmarks/peers.py, schema …/benchmark-peers/1."""
    return "\n\n".join(
        (_head(data), _figures(data), _ratios(data), _bytes(data), _tried(data), _conditions(data))
    )


def _ours(data: dict[str, Any]) -> str:
    return next(str(name) for name, one in data["models"].items() if one["engine"] == "ours")


def _peers(data: dict[str, Any]) -> list[str]:
    return [name for name, one in data["models"].items() if one["engine"] == "stock"]


def _points(data: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Words, measure and size of what was timed."""
    plan = data["plan"]
    return [
        ("decode, empty context", "decode", 0),
        (f"decode at {plan['middle']} tokens", "decode", plan["middle"]),
        (f"decode at {plan['end']} tokens", "decode", plan["long"]),
        (f"prefill {plan['prefill']}", "prefill", plan["prefill"]),
    ]


def _head(data: dict[str, Any]) -> str:
    where = data["machine"]
    quick = " A quick trial at short contexts: no figure to report." if data["quick"] else ""
    virtual = ", a virtual machine" if where["virtual"] else ""
    zeros = data["models"][_ours(data)]["zeros"]
    return (
        f"## Other models of its size{' (quick trial)' if data['quick'] else ''}\n\n"
        "**Synthetic weights** of every model: its shapes and its vocabulary's size, random "
        f"values, Q4_K_M.{quick} PLM-1.8B in our engine (edge layout, {100 * zeros:.1f} % zeros "
        "after squared ReLU, which the weights were made to have) beside the others in stock "
        "llama.cpp, on the same machine, in turns. f16 caches.\n\n"
        "This says how fast they are and what they take, not how good: the PLM paper "
        "(arXiv 2503.12167) has a table of scores, and the judgement is the reader's.\n\n"
        f"{where['cpu']}{virtual}, {where['cpus']} CPUs, {data['date'][:10]}. Stock is "
        f"{data['pin']}'s llama.cpp, untouched, built with the same settings as ours. "
        f"{origin.said_commit(data)}. Measure it "
        "again: `make bench-peers`."
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join([*table_head(*head), *map(table_row, rows)])


def _figures(data: dict[str, Any]) -> str:
    models = data["models"]
    rows = []
    for words, measure, size in _points(data):
        found = [speed(data, measure, size, name) for name in models]
        rows.append([f"{words}, t/s", *(one.show(1) if one else "-" for one in found)])
    peak = [f"{one['VmHWM'] / MIB:,.0f}" for one in models.values()]
    rows.append([f"peak RSS at {data['plan']['end']} tokens, MiB", *peak])
    for depth in (0, data["plan"]["middle"], data["plan"]["end"]):
        size_ = [f"{_read(one, depth) / 1e6:,.0f}" for one in models.values()]
        rows.append([f"bytes a token at {depth}, MB", *size_])
    rows.append(["KV cache, bytes a token", *(_cache(one) for one in models.values())])
    rows.append(["parameters, millions", *(_millions(one) for one in models.values())])
    rows.append(["file, MB", *(f"{one['file_bytes'] / 1e6:,.0f}" for one in models.values())])
    names = [f"{name}, {one['engine']}" for name, one in models.items()]
    return _table(["", *names], rows) + (
        "\n\nMedian (minimum to maximum) of turns, each model in a process that stays loaded and "
        "in the setting that was best for it (below). Peak RSS is of the process that decoded. "
        "MB are 1e6 bytes."
    )


def _millions(model: dict[str, Any]) -> str:
    return f"{model['parameters'] / 1e6:,.0f}"


def _cache(model: dict[str, Any]) -> str:
    return f"{model['cache_bytes_per_token']:,.0f}"


def _read(model: dict[str, Any], depth: int) -> float:
    """Bytes that decode of a token reads with `depth` tokens cached."""
    weights = float(sum(model["weights_bytes_per_token"].values()))
    return weights + float(model["cache_bytes_per_token"]) * depth


def _ratios(data: dict[str, Any]) -> str:
    ours, peers = _ours(data), _peers(data)
    rows = []
    for words, measure, size in _points(data):
        found: list[Spread | None] = [ratio(data, measure, size, ours, peer) for peer in peers]
        rows.append([words, *(one.show() if one else "-" for one in found)])
    memory = [data["models"][peer]["VmHWM"] / data["models"][ours]["VmHWM"] for peer in peers]
    rows.append(["peak RSS, theirs by ours", *(f"{one:.2f}" for one in memory)])
    return (
        f"### {ours} by the others\n\nSpeed of ours by theirs, round by round: above 1, ours is "
        "faster.\n\n" + _table(["", *peers], rows)
    )


def _bytes(data: dict[str, Any]) -> str:
    models = data["models"]
    parts = next(iter(models.values()))["weights_bytes_per_token"]
    rows = [
        [part, *(f"{one['weights_bytes_per_token'][part] / 1e6:,.1f}" for one in models.values())]
        for part in parts
    ]
    return (
        "### What decode reads\n\nBytes a token are calculated: the size in the file of every "
        "tensor, once, of W_down, of W_up's lower bits and of the output matrix in our engine what "
        "it counted while it decoded, and the cache's bytes a token, as the engine reports them, "
        "times the tokens cached. The embedding is the output matrix in all of them. The window "
        "of Gemma-2's local layers (4096 tokens) is never exceeded here. Weights by part, MB; "
        "the gate is with ffn_up:\n\n" + _table(["", *models], rows)
    )


def _tried(data: dict[str, Any]) -> str:
    rows = []
    for name, model in data["models"].items():
        chosen = {measure: Setting(**one) for measure, one in model["settings"].items()}
        for trial in model["trials"]:
            setting = Setting(**trial["setting"])
            taken = [measure for measure, one in chosen.items() if one == setting]
            row = [name, setting.show(), str(trial["depth"])]
            if trial["ended"]:
                row += [f"ends: `{trial['ended']}`", "", ""]
            else:
                row += [Spread.of(trial[f"{m}_t_s"]).show(1) for m in ("prefill", "decode")]
                row += [f"{trial['peak_rss_bytes'] / MIB:,.0f}"]
            rows.append([*row, ", ".join(taken)])
        tried = [trial["setting"] for trial in model["trials"]]
        for measure, setting in chosen.items():
            if model["settings"][measure] not in tried:
                rows.append([name, setting.show(), "", "not tried as a whole", "", "", measure])
    head = ["", "setting", "cached", "prefill, t/s", "decode, t/s", "peak RSS, MiB", "taken for"]
    return (
        "### Settings, by trying\n\nFrom the first setting on one thing was changed at a time; "
        "flash attention was judged last, with more tokens cached and the others as they were "
        "best for decode. What is fastest is taken, for prefill and for decode by itself; within "
        "3 %, what takes less memory.\n\n" + _table(head, rows)
    )


def _conditions(data: dict[str, Any]) -> str:
    where, load = data["machine"], data["load_average"]
    rounds = ", ".join(f"{name} {count}" for name, count in data["rounds"].items())
    return "\n".join(
        [
            "### Conditions",
            "",
            f"- kernel {where['kernel']}, governor {where['governor']}, transparent huge pages "
            f"`{where['transparent_huge_pages']}`, "
            f"{(where['memory_bytes'] or 0) / (1 << 30):.0f} GiB",
            f"- load average before {load['before']}, after {load['after']}; "
            f"{100 * data['steal_share']:.1f} % of the CPU time wanted went to other virtual "
            "machines",
            f"- rounds: {rounds} (as many as the time allowed, {data['plan']['rounds']} at most); "
            f"{data['plan']['decode_tokens']} tokens a turn of decode; measured in "
            f"{data['seconds'] / 60:.1f} min",
            f"- engine built by {data['compiler']}; `{data['command']}`",
        ]
    )
