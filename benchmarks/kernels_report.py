"""The section of BENCHMARKS.md on the kernels, from results/kernels.json."""

from __future__ import annotations

from typing import Any

from benchmarks import isa, origin
from benchmarks.kernels_figures import (
    Spread,
    bandwidth_beside,
    bandwidth_share,
    best_stock,
    bytes_per_token,
    ratio,
    speed,
)
from benchmarks.machine import best_bandwidth
from benchmarks.markdown import table_head, table_row

# what was asked for: prefill and decode, by (setting, tokens, ours)
TARGETS = (
    ("decode", 0, "ours", 2.6),
    ("decode", 2048, "ours", 3.2),
    ("decode", 4096, "ours", 2.5),
    ("decode", 4096, "ours, q8_0", 3.0),
    ("prefill", 512, "ours", 2.1),
    ("prefill", 4096, "ours", 1.85),
)
# the same where both are compiled for one instruction set; None: nothing was asked for
ISA_TARGETS = {
    "avx2": (
        ("decode", 0, "ours", 1.5),
        ("decode", 2048, "ours", None),
        ("decode", 4096, "ours", 1.9),
        ("decode", 4096, "ours, q8_0", 2.1),
        ("prefill", 512, "ours", 1.6),
        ("prefill", 4096, "ours", None),
    )
}
CACHE_TARGETS = (("ours", "f16", 8.9), ("ours, q8_0", "q8_0", 16.7))
MEMORY_TARGET = 1.8
BANDWIDTH_TARGET = 0.8
MIB = 1 << 20


def section(data: dict[str, Any]) -> str:
    """Markdown. `data` is a result of benchmarks/kernels.py, schema …/benchmark-kernels/2."""
    parts = [_head(data), _targets(data), _settings(data), _ablations(data)]
    parts += [_bandwidth(data), _profiles(data), _conditions(data)]
    return "\n\n".join(parts)


def _head(data: dict[str, Any]) -> str:
    where, sizes = data["machine"], data["model_bytes"]
    virtual = ", a virtual machine" if where["virtual"] else ""
    quick = " A quick trial at short contexts: no figure to report." if data["quick"] else ""
    built_for = data.get("isa")
    title = f", both compiled for {isa.NAMES[built_for]}" if built_for else ""
    # prepare.py calibrates since the output matrix has a coarse form, whose rows are counted
    given = "by `--calibrate default` " if "head_read" in data["zeros"] else ""
    again = f" BENCH_ARGS='--isa {built_for}'" if built_for else ""
    return (
        f"## Kernels: ours against stock llama.cpp{title}"
        f"{' (quick trial)' if data['quick'] else ''}\n\n"
        f"**Synthetic weights**: PLM-1.8B's shapes, random values, {data['quant'].upper()}; "
        f"{100 * data['zeros']['decode_mean']:.1f} % zeros after squared ReLU, counted by the "
        f"engine while it decoded.{quick} Each engine has what `plm-edge convert --quant "
        f"{data['quant']}` makes for it: ours the edge layout with its own mixture of types, "
        f"{given}({sizes['edge'] / 1e6:,.0f} MB), stock the stock layout with llama.cpp's "
        f"({sizes['stock'] / 1e6:,.0f} MB).\n\n"
        f"{where['cpu']}{virtual}, threads: {where['threads']}, {data['date'][:10]}. "
        f"Stock is {data['pin']}'s llama.cpp, untouched, built by the same compiler with the same "
        f"flags. {origin.said_commit(data)}. "
        f"Measure it again: `make bench-kernels{again}`."
    )


def _verdict(reached: float, target: float | None, digits: int = 2) -> str:
    if target is None:
        return ""
    if round(reached, digits) >= target:
        return "reached"
    return f"**missed by {100 * (1 - reached / target):.0f} %**"


def _size(data: dict[str, Any], setting: str, size: int) -> int:
    """The size as it was measured: the last turn starts so that it ends at the last position."""
    plan = data["plan"]
    measured = {0: 0, 512: plan["prefill"], 2048: plan["middle"]}
    if size != 4096:
        return int(measured[size])
    return int(plan["long"] if setting == "decode" else plan["end"])


def _targets(data: dict[str, Any]) -> str:
    lines = table_head(
        "ratio to stock's best", "asked", "reached: median (range of pairs)", "", "ours", "stock"
    )
    end = data["plan"]["end"]
    for setting, asked_at, ours, target in ISA_TARGETS.get(data.get("isa") or "", TARGETS):
        size = _size(data, setting, asked_at)
        found = ratio(data, setting, size, ours)
        if found is None:
            continue
        shown = end if asked_at == 4096 else size
        cache = {"ours": "f16", "ours, q8_0": "q8_0"}[ours]
        what = f"decode at {shown} tokens, {cache} cache" if size else "decode, empty context"
        what = what if setting == "decode" else f"prefill {shown}"
        stock = best_stock(data, setting, size)
        verdict = "" if data["quick"] else _verdict(found.middle, target)
        lines.append(
            f"| {what} | {f'{target} x' if target else ''} | {found.show()} x | {verdict} "
            f"| {_rate(speed(data, setting, size, ours))} "
            f"| {_rate(speed(data, setting, size, stock))}{_note(stock)} |"
        )
    engines = data["engines"]
    stock_cache = engines["stock"]["cache_bytes_per_token"]
    for ours, name, target in CACHE_TARGETS:
        size = engines[ours]["cache_bytes_per_token"]
        reached = stock_cache / size
        lines.append(
            f"| KV bytes a token, {name} | {target} x | {reached:.2f} x "
            f"| {_verdict(reached, target, 1)} | {size:,.0f} | {stock_cache:,.0f} (f16) |"
        )
    ours_peak, stock_peak = engines["ours"]["VmHWM"], engines["stock"]["VmHWM"]
    verdict = "" if data["quick"] else _verdict(stock_peak / ours_peak, MEMORY_TARGET)
    lines.append(
        f"| peak RSS at {end} tokens | {MEMORY_TARGET} x | {stock_peak / ours_peak:.2f} x "
        f"| {verdict} | {ours_peak / MIB:,.0f} MiB | {stock_peak / MIB:,.0f} MiB |"
    )
    return "\n".join(lines) + (
        "\n\nTokens a second: median (minimum to maximum) of turns that alternate between the two, "
        "each in a process that stays loaded. KV bytes are the engines' own reports."
    )


def _rate(found: Spread | None) -> str:
    return f"{found.show(1)} t/s" if found else "-"


def _note(config: str) -> str:
    return "" if config == "stock" else " (K in q8_0)"


def _settings(data: dict[str, Any]) -> str:
    lines = ["Stock's settings were found by trying (so were ours):", ""]
    for one in data["tried"]:
        if "ended" in one:
            how = f"aborts: `{one['ended']}`" if one["ended"] else "runs"
            lines.append(f"- {one['config']}: {how}")
        else:
            rate = Spread.of(one["decode_t_s"]).show(1)
            chosen = " (taken)" if data["load_mode"][one["config"]] == one["load_mode"] else ""
            lines.append(
                f"- {one['config']}, loaded with `{one['load_mode']}`: decode {rate} t/s, "
                f"peak {one['peak_rss_bytes'] / MIB:,.0f} MiB{chosen}"
            )
    size = data["engines"]["stock, K in q8_0"]["cache_bytes_per_token"]
    lines.append(
        "- a quantised V needs flash attention upstream, so stock's q8_0 cache is K in q8_0 "
        f"with V in f16: {size:,.0f} bytes a token"
    )
    return "\n".join(lines)


def _ablations(data: dict[str, Any]) -> str:
    plan = data["plan"]
    names = [
        one["config"].removeprefix("ours, in turns with ")
        for one in data["samples"]
        if one["config"].startswith("ours, in turns with ")
    ]
    columns = {
        "decode, empty": ("decode", 0),
        f"at {plan['middle']}": ("decode", plan["middle"]),
        f"at {plan['end']}": ("decode", plan["long"]),
        f"prefill {plan['prefill']}": ("prefill", plan["prefill"]),
    }
    sides = {name: (name, f"ours, in turns with {name}") for name in names}
    sides["stock: expanded cache, dense FFN"] = ("stock", "ours")
    rows = table_head("relative to all of ours", *columns)
    for name, side in sides.items():
        found = [ratio(data, *column, *side) for column in columns.values()]
        rows.append(table_row([name, *(one.show() if one else "-" for one in found)]))
    return "### What each part brings (ablations)\n\n" + "\n".join(rows)


def _bandwidth(data: dict[str, Any]) -> str:
    best = best_bandwidth(data["bandwidth"])
    other = best_bandwidth(data["bandwidth"], "4k" if best["pages"] == "huge" else "huge")
    names = {"huge": "huge pages", "4k": "4 KiB pages"}
    rows = table_head("bytes a token, MB (1e6)", "ours", "stock")
    sparse, dense = (data["weights_bytes_per_token"][kind] for kind in ("sparse", "dense"))
    for part in sparse:
        rows.append(f"| {part} | {sparse[part] / 1e6:.1f} | {dense[part] / 1e6:.1f} |")
    end, engines = data["plan"]["end"], data["engines"]
    for config, stock, kind in (("ours", "stock", "f16"), ("ours, q8_0", None, "q8_0")):
        ours = engines[config]["cache_bytes_per_token"] * end / 1e6
        theirs = f"{engines[stock]['cache_bytes_per_token'] * end / 1e6:.1f}" if stock else ""
        rows.append(f"| cache at {end}, {kind} | {ours:.1f} | {theirs} |")
    shares = table_head("", "bytes a token", "share of the bandwidth: median (range)", "")
    depths = (0, data["plan"]["middle"], data["plan"]["long"])
    for config in ("ours", "ours, q8_0", "stock"):
        for depth in depths:
            share = bandwidth_share(data, config, depth)
            if share is None:
                continue
            percent = share.times(100)
            verdict = ""
            if config != "stock" and not data["quick"]:
                verdict = _verdict(share.middle, BANDWIDTH_TARGET)
            shown = end if depth == depths[2] else depth
            shares.append(
                f"| {config} at {shown} | {bytes_per_token(data, config, depth) / 1e6:.0f} MB "
                f"| {percent.show(0)} % | {verdict} |"
            )
    return (
        "### Memory: what decode must read, and how fast\n\n"
        f"Read bandwidth, measured by `bench-plm-bandwidth` before and after: "
        f"{best['median_gb_s']} GB/s in {names[best['pages']]} ({best['streams']} streams a "
        f"thread), {other['median_gb_s']} GB/s in {names[other['pages']]}; each the best median of "
        f"8 ways of reading. Beside each turn of decode it was measured again, the best way alone: "
        f"{bandwidth_beside(data).show(1)} GB/s{_shared(data)}. The share is bytes that must be "
        "read, over the bandwidth beside the turn, over the time taken; asked for is "
        f"{100 * BANDWIDTH_TARGET:.0f} %.\n\n" + "\n".join(shares) + "\n\n" + "\n".join(rows)
    )


def _shared(data: dict[str, Any]) -> str:
    beside = bandwidth_beside(data)
    if beside.high < 1.2 * beside.low:
        return ""
    return ", which others who share the memory change"


def _profiles(data: dict[str, Any]) -> str:
    parts = ["### Where decode spends its time\n\n`perf record -e cpu-clock`, by symbol."]
    for name, found in data["profiles"].items():
        if "absent" in found:
            parts.append(f"{name}: no profile ({found['absent']})")
            continue
        lines = [
            f"    {p:5.1f} %  {symbol[:70]}  [{lib}]" for p, symbol, lib in found["symbols"][:8]
        ]
        parts.append(f"{name}:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _conditions(data: dict[str, Any]) -> str:
    where, load = data["machine"], data["load_average"]
    pairs = data["plan"]["rounds"]
    lines = [
        "### Conditions",
        "",
        f"- kernel {where['kernel']}, governor {where['governor']}, transparent huge pages "
        f"`{where['transparent_huge_pages']}`, {where['cpus']} CPUs, "
        f"{(where['memory_bytes'] or 0) / (1 << 30):.0f} GiB",
        f"- load average before {load['before']}, after {load['after']}; "
        f"{100 * data['steal_share']:.1f} % of the CPU time wanted went to other virtual machines",
        f"- {pairs} pairs of each setting, ablations fewer; "
        f"measured in {data['seconds'] / 60:.1f} min",
        f"- engine built by {data['compiler']}; `{data['command']}`",
    ]
    if data["left_out"]:
        lines.append(f"- left out for want of time: {'; '.join(data['left_out'])}")
    return "\n".join(lines)
