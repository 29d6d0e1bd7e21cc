"""The tables of a result that `plm-edge bench` shows on stdout."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from plm_edge.base import console

Result = dict[str, Any]


def show(result: Result) -> None:
    """The tables of a result on stdout."""
    console.out.print(_headline(result))
    for remark in remarks(result):
        console.out.print(Text("note: ", "yellow").append(console.printable(remark), "default"))
    console.out.print()
    if "emulation" in result:
        console.out.print(instructions_table(result))
        return
    console.out.print(speed_table(result))
    console.out.print()
    if any("memory" in point for point in result["points"]):
        console.out.print(memory_table(result))
        console.out.print()
    if "capability" in result:
        console.out.print(bounds_table(result))
        console.out.print()
    console.out.print(power_table(result))
    if "sustained" in result:
        console.out.print()
        console.out.print(sustained_line(result))
    if "comparison" in result:
        console.out.print()
        console.out.print(comparison_table(result["comparison"]))


def _headline(result: Result) -> Text:
    model, machine, settings = result["model"], result["machine"], result["settings"]
    synthetic = " (synthetic weights)" if model["synthetic"] else ""
    line = console.cell(f"{model['name']} {model['quant']}{synthetic}", "bold")
    line.append(
        console.printable(
            f"  {model['layout']} layout, {console.size(model['tensor_bytes'])}; "
            f"{result['engine']['name']} on {_place(machine)}, {settings['threads']} threads, "
            f"KV {settings['kv']}"
        ),
        style="dim",
    )
    return line


BUSY = 0.5  # load average by logical core from which other programs spoil the figures


def remarks(result: Result) -> list[str]:
    """What a reader has to know beside the figures."""
    made = []
    load, cores = result["machine"]["load_before"], result["machine"]["cores_logical"]
    if load and cores and load[0] / cores > BUSY:
        made.append(
            f"other programs were busy: a load of {load[0]:.1f} on {cores} CPUs when it began"
        )
    wide = [p["name"] for p in result["points"] if p.get("interval_reached") is False]
    share = 100 * result["settings"]["workload"]["interval"]
    if wide and share:
        made.append(f"time ran out before the mean was known to {share:.0f} %: {', '.join(wide)}")
    hot = [p["name"] for p in result["points"] if (p.get("power") or {}).get("throttled")]
    if hot:
        made.append(f"the device throttled itself at {', '.join(hot)}: these figures are too low")
    return made


def _place(machine: Result) -> str:
    device = machine["device"]
    return str(machine["cpu"]) if device == "local" else f"{device} ({machine['cpu']})"


def estimate_table(found: Result) -> Any:
    """An estimate; the word and its formula stand on every line."""
    model, machine = found["model"], found["machine"]
    synthetic = " (synthetic weights)" if model["synthetic"] else ""
    table = console.table(
        f"{found['device']}, not measured: {model['name']} {model['quant']}{synthetic}",
        "", "", right=(1,),
    )  # fmt: skip

    def line(name: str, value: str, note: str) -> None:
        table.add_row(f"estimate: {name}", Text(value, "bold"), console.cell(note, "dim"))

    def bounds(where: str, one: Result) -> None:
        how = "measured, in caches" if where else "the share of F that kernels reach here"
        rates = ", ".join(f"{kind} {ops / 1e9:,.0f}" for kind, ops in one["kernels"].items())
        line(f"K{where}", "GOP/s" if rates else "-", f"{rates}; {how}" if rates else "F is lacking")
        clocks = "" if where else ", in as many clocks as here"
        line(f"o{where}", f"{one['node_s'] * 1e6:.2f} µs", f"to start an operation{clocks}")

    for point in found["prefill"]:
        line(f"pp{point['n_tokens']}", f"{point['estimate_tps']:,.1f} t/s", point["formula"])
    for point in found["decode"]:
        size = console.size(point["bytes_a_token"])
        line(
            f"tg @ d{point['depth']}", f"{point['estimate_tps']:,.1f} t/s",
            f"{point['formula']}; bytes {size}",
        )  # fmt: skip
    kind = "reached by programs" if machine["reached"] else "the sheet's: an upper bound"
    line("B", f"{machine['read_bytes_s'] / 1e9:.2f} GB/s", f"{kind}; {machine['source']}")
    flops = machine["flops"]
    line("F", f"{flops / 1e9:,.0f} GFLOP/s" if flops else "-", machine["flops_source"])
    bounds("", machine)
    here = found["check"]["machine"]
    for point in found["check"]["points"]:
        line(
            f"checked here, {point['name']}", f"{point['estimate_tps']:,.1f} t/s",
            f"measured {point['measured_tps']:,.1f} ({100 * (point['ratio'] - 1):+.0f} %); "
            f"{point['formula']}",
        )  # fmt: skip
    line("B here", f"{here['read_bytes_s'] / 1e9:.2f} GB/s", here["source"])
    flops = here["flops"]
    line("F here", f"{flops / 1e9:,.0f} GFLOP/s" if flops else "-", here["flops_source"])
    bounds(" here", here)
    if not found["applies"]:
        line(
            "with care",
            "",
            "so small a model lies in caches, of which profiles tell nothing",
        )
    return table


def instructions_table(result: Result) -> Any:
    """Of an emulated device: whether its tokens are right, and what they take."""
    said = result["emulation"]
    tokens = said["tokens"]
    table = console.table(
        f"emulated: {said['emulator']} -cpu {said['cpu']}", "instructions a token", "", right=(1,)
    )
    for point in result["points"]:
        counted = point.get("instructions", {}).get("a_token")
        shown = Text("not counted" if counted is None else f"{counted:,.0f}", "bold")
        note = "all of it" if point["kind"] == "load" else ""
        zeros = point.get("zeros")
        note = f"{100 * zeros:.0f} % of W_down skipped" if zeros else note
        table.add_row(console.cell(point["name"]), shown, console.cell(note, "dim"))
    if said["not_counted"]:
        table.add_row(Text("not counted", "dim"), "", console.cell(said["not_counted"], "dim"))
    table.add_row(
        "tokens",
        Text("equal" if tokens["equal"] else "others", "bold"),
        console.cell(f"{len(tokens['there'])} greedy ones after {tokens['prompt']!r}", "dim"),
    )
    table.add_row("speed", Text("not measured", "dim"), console.cell("qemu's is not its", "dim"))
    return table


def side_by_side(results: list[Result]) -> Any:
    """Medians of all devices, a column each."""
    names = [str(one["machine"]["device"]) for one in results]
    table = console.table("side by side", *names, right=tuple(range(1, len(names) + 1)))
    for name, cells in medians(results):
        table.add_row(console.cell(name), *cells)
    return table


def medians(results: list[Result]) -> list[tuple[str, list[str]]]:
    """Of each point its name, and for each result what it came to, in words."""
    names = dict.fromkeys(point["name"] for one in results for point in one["points"])
    return [(name, [_median(one, name) for one in results]) for name in names]


def _median(result: Result, name: str) -> str:
    point: Result = next((p for p in result["points"] if p["name"] == name), {})
    if "tps" in point:
        return f"{point['tps']['median']:,.1f} t/s"
    if "seconds" in point:
        return console.duration(point["seconds"]["median"])
    counted = (point.get("instructions") or {}).get("a_token")
    return f"{counted:,.0f} instructions" if counted else "-"


def speed_table(result: Result) -> Any:
    """Times and rates: median, range, how well known, and single tokens' latency."""
    table = console.table(
        "", "median", "min", "max", "±", "n", "TTFT", "p50", "p95", "p99", right=tuple(range(1, 10))
    )
    for point in result["points"]:
        if point["skipped"]:
            table.add_row(console.cell(point["name"], "dim"), Text("not measured here", "dim"))
            continue
        table.add_row(console.cell(point["name"]), *_figures(point))
    return table


def _figures(point: Result) -> list[Text]:
    known = point.get("tps") or point["seconds"]
    show = (lambda v: f"{v:,.1f} t/s") if "tps" in point else console.duration
    plain = (lambda v: f"{v:,.1f}") if "tps" in point else console.duration
    spread = "-" if known["interval"] is None else f"{100 * known['interval']:.1f} %"
    wide = point["interval_reached"] is False
    ttft = console.duration(point["ttft_s"]["median"]) if "ttft_s" in point else ""
    steps = point.get("inter_token_s", {})
    latencies = [milliseconds(steps[name]) if steps else "" for name in ("p50", "p95", "p99")]
    return [
        Text(show(known["median"]), style="bold"),
        Text(plain(known["minimum"]), style="dim"),
        Text(plain(known["maximum"]), style="dim"),
        Text(spread, style="yellow" if wide else "dim"),
        Text(str(known["n"]), style="dim"),
        *(Text(text) for text in (ttft, *latencies)),
    ]


def milliseconds(seconds: float) -> str:
    """Always in milliseconds, so that a column can be compared by eye."""
    return f"{1000 * seconds:.2f} ms" if seconds < 0.1 else f"{1000 * seconds:,.0f} ms"


def memory_table(result: Result) -> Any:
    """What it took of memory, at the point that took most."""
    measured = [point for point in result["points"] if "memory" in point]
    worst = max(measured, key=lambda point: point["memory"]["peak_rss_bytes"])
    memory = worst["memory"]
    weights = memory["weights_bytes"]
    table = console.table("memory", "", "", right=(1,))
    rows = [
        ("peak RSS", memory["peak_rss_bytes"], f"of the process, at {worst['name']}"),
        (
            "weights",
            sum(weights.values()),
            ", ".join(f"{name} {console.size(size)}" for name, size in weights.items()),
        ),
        (
            "KV cache",
            memory["kv_bytes"],
            f"{memory['kv_cells']:,} cells, {memory['kv_type']}, "
            f"{memory['kv_bytes_per_token']:,.0f} B a token",
        ),
        ("compute", memory["compute_bytes"], "the engine's buffers"),
    ]
    for name, size, detail in rows:
        table.add_row(name, Text(console.size(size), "bold"), console.cell(detail, "dim"))
    return table


def bounds_table(result: Result) -> Any:
    """What each point reached of the machine's bandwidth and arithmetic."""
    machine = result["capability"]
    table = console.table(
        "bound", "a step reads", "reached", "of read", "of f32", "", right=(1, 2, 3, 4)
    )
    for point in result["points"]:
        if "bounds" not in point:
            continue
        bound = point["bounds"]
        zeros = f", {100 * point['zeros']:.0f} % of W_down skipped" if point["zeros"] else ""
        table.add_row(
            point["name"],
            console.size(bound["bytes_a_step"]),
            f"{bound['bytes_s'] / 1e9:.1f} GB/s",
            Text(f"{100 * bound['bandwidth_share']:.0f} %", "bold"),
            f"{100 * bound['compute_share']:.0f} %",
            console.cell(f"{bound['bound_by']}{zeros}", "dim"),
        )
    table.add_row(
        Text("machine", "dim"),
        "",
        f"{machine['read_bytes_s'] / 1e9:.1f} GB/s",
        "",
        "",
        console.cell(f"{machine['flops'] / 1e9:,.3g} GFLOP/s f32, both measured", "dim"),
    )
    return table


NO_POWER = ("thermal zones", "CPU clock", "throttling")  # lacking, but no meters of energy


def power_table(result: Result) -> Any:
    """Energy, temperature and throttling; or what is not measured here, and why."""
    power = result["power"]
    table = console.table("power", "", "", "", right=(1, 2))
    if power["meters"]:
        cost = power["overhead"]
        share = max(cost["thread_cpu_share"], 0.0)
        table.add_row(
            "sampling", f"{100 * share:.2f} %", "",
            console.cell(
                f"of one core here: {len(power['meters'])} meters every {cost['interval_s']:g} s, "
                f"{console.duration(cost['seconds_a_round'])} a round", "dim",
            ),
        )  # fmt: skip
    if not power["counted"]:
        lacking = ", ".join(
            item["what"] for item in power["lacking"] if item["what"] not in NO_POWER
        )
        why = f"none of {lacking} (--json says why)"
        table.add_row("energy", Text("not measured here", "dim"), "", console.cell(why, "dim"))
        return table
    if power["idle_watts"] is not None:
        table.add_row("idle", f"{power['idle_watts']:.2f} W", "", ", ".join(power["counted"]))
    for point in result["points"]:
        said = point.get("power")
        if not said:
            continue
        energy = said["energy"]
        notes = "throttled" if said["throttled"] else ""
        if energy is None:
            table.add_row(point["name"], Text("too short", "dim"), "", Text(notes, "yellow"))
            continue
        table.add_row(
            point["name"],
            f"{energy['watts']:.2f} W",
            Text(f"{energy['joules_a_token']:.4f} J/token", "bold"),
            Text(notes, "yellow"),
        )
    return table


def sustained_line(result: Result) -> Text:
    """How the rate held, in words."""
    said = result["sustained"]
    minutes = console.duration(said["rates"][-1][0])
    style = "yellow" if said["held"] < 0.95 else "bold"
    line = Text(f"held {100 * said['held']:.0f} %", style)
    return line.append(f" of its first rate after {minutes} of decode", "default")


def comparison_table(comparison: Result) -> Any:
    """Ours and the other side by side."""
    other = comparison["with"]["engine"]["name"]
    other = other if other == "stock" else f"{other} of {comparison['with']['created'][:10]}"
    table = console.table(f"against {other}", "here", "there", "ratio", "", right=(1, 2, 3))
    for point in comparison["points"]:
        load = point["kind"] == "load"
        a, b = (
            console.duration(v) if load else f"{v:,.1f} t/s"
            for v in (point["ours"], point["other"])
        )
        noise = "" if point["beyond_noise"] else "within noise"
        table.add_row(
            point["name"], a, b, Text(f"{point['ratio']:.2f}x", "bold"), Text(noise, "dim")
        )
    for line in comparison["differences"]:
        table.add_row(Text("differs", "dim"), "", "", "", console.cell(line, "dim"))
    return table
