"""The tables of a result that `plm-edge bench` shows on stdout."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from plm_edge.base import console
from plm_edge.bench.analyse.estimate import DeviceEstimate
from plm_edge.bench.analyse.machines import Machine as RooflineMachine
from plm_edge.bench.render.summary import (
    lacking_energy,
    medians,
    milliseconds,
    most_on_gpu,
    on_gpu,
    remarks,
)
from plm_edge.bench.result.shape import Comparison, Machine, Offload, Point, Result


def show(result: Result) -> None:
    """The tables of a result on stdout."""
    console.out.print(_headline(result))
    for remark in remarks(result):
        console.out.print(Text("note: ", "yellow").append(console.printable(remark), "default"))
    console.out.print()
    if result.emulation:
        console.out.print(instructions_table(result))
        return
    console.out.print(speed_table(result))
    console.out.print()
    if any(point.memory for point in result.points):
        console.out.print(memory_table(result))
        console.out.print()
    if result.offload:
        console.out.print(offload_table(result, result.offload))
        console.out.print()
    if result.capability:
        console.out.print(bounds_table(result))
        console.out.print()
    console.out.print(power_table(result))
    if result.sustained:
        console.out.print()
        console.out.print(sustained_line(result))
    if result.comparison:
        console.out.print()
        console.out.print(comparison_table(result.comparison))


def _headline(result: Result) -> Text:
    model, settings = result.model, result.settings
    synthetic = " (synthetic weights)" if model.synthetic else ""
    line = console.cell(f"{model.name} {model.quant}{synthetic}", "bold")
    line.append(
        console.printable(
            f"  {model.layout} layout, {console.size(model.tensor_bytes)}; "
            f"{result.engine.name} on {_place(result.machine)}, {settings.threads} threads, "
            f"KV {settings.kv}{', exact' if settings.exact else ''}"
        ),
        style="dim",
    )
    return line


def _place(machine: Machine) -> str:
    device = machine.device
    return machine.cpu if device == "local" else f"{device} ({machine.cpu})"


def estimate_table(found: DeviceEstimate) -> Any:
    """An estimate; the word and its formula stand on every line."""
    model, machine = found.model, found.machine
    synthetic = " (synthetic weights)" if model.synthetic else ""
    table = console.table(
        f"{found.device}, not measured: {model.name} {model.quant}{synthetic}",
        "", "", right=(1,),
    )  # fmt: skip

    def line(name: str, value: str, note: str) -> None:
        table.add_row(f"estimate: {name}", Text(value, "bold"), console.cell(note, "dim"))

    def bounds(where: str, one: RooflineMachine) -> None:
        how = one.kernels_source
        rates = ", ".join(f"{kind} {ops / 1e9:,.0f}" for kind, ops in one.kernels.items())
        line(f"K{where}", "GOP/s" if rates else "-", f"{rates}; {how}" if rates else "F is lacking")
        clocks = "" if where else ", in as many clocks as here"
        line(f"o{where}", f"{one.node_s * 1e6:.2f} µs", f"to start an operation{clocks}")

    for point in found.prefill:
        line(f"pp{point.n_tokens}", f"{point.estimate_tps:,.1f} t/s", point.formula)
    for step in found.decode:
        size = console.size(step.bytes_a_token)
        line(
            f"tg @ d{step.depth}", f"{step.estimate_tps:,.1f} t/s",
            f"{step.formula}; bytes {size}",
        )  # fmt: skip
    kind = "reached by programs" if machine.reached else "the sheet's: an upper bound"
    line("B", f"{machine.read_bytes_s / 1e9:.2f} GB/s", f"{kind}; {machine.source}")
    flops = machine.flops
    line("F", f"{flops / 1e9:,.0f} GFLOP/s" if flops else "-", machine.flops_source)
    bounds("", machine)
    here = found.check.machine
    for checked in found.check.points:
        line(
            f"checked here, {checked.name}", f"{checked.estimate_tps:,.1f} t/s",
            f"measured {checked.measured_tps:,.1f} ({100 * (checked.ratio - 1):+.0f} %); "
            f"{checked.formula}",
        )  # fmt: skip
    line("B here", f"{here.read_bytes_s / 1e9:.2f} GB/s", here.source)
    flops = here.flops
    line("F here", f"{flops / 1e9:,.0f} GFLOP/s" if flops else "-", here.flops_source)
    bounds(" here", here)
    if not found.applies:
        line(
            "with care",
            "",
            "so small a model lies in caches, of which profiles tell nothing",
        )
    return table


def instructions_table(result: Result) -> Any:
    """Of an emulated device: whether its tokens are right, and what they take."""
    emulation = result.emulation
    assert emulation is not None
    tokens = emulation.tokens
    table = console.table(
        f"emulated: {emulation.emulator} -cpu {emulation.cpu}", "instructions a token", "",
        right=(1,),
    )  # fmt: skip
    for point in result.points:
        counted = point.instructions.a_token if point.instructions else None
        shown = Text("not counted" if counted is None else f"{counted:,.0f}", "bold")
        note = "all of it" if point.kind == "load" else ""
        zeros = point.skipped_rows
        note = f"{100 * zeros:.0f} % of W_down skipped" if zeros else note
        table.add_row(console.cell(point.name), shown, console.cell(note, "dim"))
    if emulation.not_counted:
        table.add_row(Text("not counted", "dim"), "", console.cell(emulation.not_counted, "dim"))
    table.add_row(
        "tokens",
        Text("equal" if tokens.equal else "others", "bold"),
        console.cell(f"{len(tokens.there)} greedy ones after {tokens.prompt!r}", "dim"),
    )
    table.add_row("speed", Text("not measured", "dim"), console.cell("qemu's is not its", "dim"))
    return table


def side_by_side(results: list[Result]) -> Any:
    """Medians of all devices, a column each."""
    names = [one.machine.device for one in results]
    table = console.table("side by side", *names, right=tuple(range(1, len(names) + 1)))
    for name, cells in medians(results):
        table.add_row(console.cell(name), *cells)
    return table


def speed_table(result: Result) -> Any:
    """Times and rates: median, range, how well known, and single tokens' latency."""
    table = console.table(
        "", "median", "min", "max", "±", "n", "TTFT", "p50", "p95", "p99", right=tuple(range(1, 10))
    )
    for point in result.points:
        if point.skipped:
            table.add_row(console.cell(point.name, "dim"), Text("not measured here", "dim"))
            continue
        table.add_row(console.cell(point.name), *_figures(point))
    return table


def _figures(point: Point) -> list[Text]:
    known = point.known
    assert known is not None
    show = (lambda v: f"{v:,.1f} t/s") if point.tps else console.duration
    plain = (lambda v: f"{v:,.1f}") if point.tps else console.duration
    spread = "-" if known.interval is None else f"{100 * known.interval:.1f} %"
    wide = point.interval_reached is False
    ttft = console.duration(point.ttft_s.median) if point.ttft_s else ""
    steps = point.inter_token_s
    latencies = [milliseconds(s) for s in (steps.p50, steps.p95, steps.p99)] if steps else [""] * 3
    return [
        Text(show(known.median), style="bold"),
        Text(plain(known.minimum), style="dim"),
        Text(plain(known.maximum), style="dim"),
        Text(spread, style="yellow" if wide else "dim"),
        Text(str(known.n), style="dim"),
        *(Text(text) for text in (ttft, *latencies)),
    ]


def memory_table(result: Result) -> Any:
    """What it took of memory, at the point that took most."""
    measured = [(point.name, point.memory) for point in result.points if point.memory]
    worst, memory = max(measured, key=lambda one: one[1].peak_rss_bytes or 0)
    weights = memory.weights_bytes
    table = console.table("memory", "", "", right=(1,))
    rows = [
        ("peak RSS", memory.peak_rss_bytes or 0, f"of the process, at {worst}"),
        (
            "weights",
            sum(weights.values()),
            ", ".join(f"{name} {console.size(size)}" for name, size in weights.items()),
        ),
        (
            "KV cache",
            memory.kv_bytes,
            f"{memory.kv_cells:,} cells, {memory.kv_type}, "
            f"{memory.kv_bytes_per_token:,.0f} B a token",
        ),
        ("compute", memory.compute_bytes, "the engine's buffers"),
    ]
    for name, size, detail in rows:
        table.add_row(name, Text(console.size(size), "bold"), console.cell(detail, "dim"))
    return table


def offload_table(result: Result, found: Offload) -> Any:
    """What went to GPUs, what it takes of their memory, and in how many parts the graph is."""
    table = console.table("GPU", "", "", right=(1,))
    for gpu in found.gpus:
        table.add_row(
            console.cell(gpu.name),
            Text(console.size(gpu.free_bytes), "bold"),
            console.cell(f"free of {console.size(gpu.total_bytes)}, {gpu.description}", "dim"),
        )
    count = f"{found.layers} of {found.n_layers + 1}"
    table.add_row("layers", Text(count, "bold"), console.cell(found.why, "dim"))
    memory = most_on_gpu(result)
    for name, size, detail in on_gpu(memory) if memory else ():
        table.add_row(
            f"VRAM: {name}", Text(console.size(size), "bold"), console.cell(detail, "dim")
        )
    if memory and memory.splits:
        prompt, token = memory.splits
        detail = "parts of the graph, of a micro-batch and of a token: 2 / 2 is the least"
        table.add_row("splits", Text(f"{prompt} / {token}", "bold"), Text(detail, "dim"))
    if found.zeros is not None:
        detail = "of W_down's rows, counted on the CPU"
        table.add_row("zeros", Text(f"{100 * found.zeros:.0f} %", "bold"), Text(detail, "dim"))
    return table


def bounds_table(result: Result) -> Any:
    """What each point reached of the machine's bandwidth and arithmetic."""
    machine = result.capability
    assert machine is not None
    table = console.table(
        "bound", "a step reads", "reached", "of read", "of f32", "", right=(1, 2, 3, 4)
    )
    for point in result.points:
        bound = point.bounds
        if bound is None:
            continue
        share = point.skipped_rows
        zeros = f", {100 * share:.0f} % of W_down skipped" if share else ""
        table.add_row(
            point.name,
            console.size(bound.bytes_a_step),
            f"{bound.bytes_s / 1e9:.1f} GB/s",
            Text(f"{100 * bound.bandwidth_share:.0f} %", "bold"),
            f"{100 * bound.compute_share:.0f} %",
            console.cell(f"{bound.bound_by}{zeros}", "dim"),
        )
    table.add_row(
        Text("machine", "dim"),
        "",
        f"{machine.read_bytes_s / 1e9:.1f} GB/s",
        "",
        "",
        console.cell(f"{machine.flops / 1e9:,.3g} GFLOP/s f32, both measured", "dim"),
    )
    return table


def power_table(result: Result) -> Any:
    """Energy, temperature and throttling; or what is not measured here, and why."""
    power = result.power
    table = console.table("power", "", "", "", right=(1, 2))
    if power.meters:
        cost = power.overhead
        share = max(cost.thread_cpu_share, 0.0)
        table.add_row(
            "sampling", f"{100 * share:.2f} %", "",
            console.cell(
                f"of one core here: {len(power.meters)} meters every {cost.interval_s:g} s, "
                f"{console.duration(cost.seconds_a_round)} a round", "dim",
            ),
        )  # fmt: skip
    if not power.counted:
        lacking = ", ".join(item.what for item in lacking_energy(result))
        why = f"none of {lacking} (--json says why)"
        table.add_row("energy", Text("not measured here", "dim"), "", console.cell(why, "dim"))
        return table
    if power.idle_watts is not None:
        table.add_row("idle", f"{power.idle_watts:.2f} W", "", ", ".join(power.counted))
    for point in result.points:
        if point.power is None:
            continue
        energy = point.power.energy
        notes = "throttled" if point.power.throttled else ""
        if energy is None:
            table.add_row(point.name, Text("too short", "dim"), "", Text(notes, "yellow"))
            continue
        table.add_row(
            point.name,
            f"{energy.watts:.2f} W",
            Text(f"{energy.joules_a_token:.4f} J/token", "bold"),
            Text(notes, "yellow"),
        )
    return table


def sustained_line(result: Result) -> Text:
    """How the rate held, in words."""
    run = result.sustained
    assert run is not None
    minutes = console.duration(run.rates[-1][0])
    style = "yellow" if run.held < 0.95 else "bold"
    line = Text(f"held {100 * run.held:.0f} %", style)
    return line.append(f" of its first rate after {minutes} of decode", "default")


def comparison_table(comparison: Comparison) -> Any:
    """Ours and the other side by side."""
    other = comparison.other.engine.name
    other = other if other == "stock" else f"{other} of {comparison.other.created[:10]}"
    table = console.table(f"against {other}", "here", "there", "ratio", "", right=(1, 2, 3))
    for point in comparison.points:
        load = point.kind == "load"
        a, b = (console.duration(v) if load else f"{v:,.1f} t/s" for v in (point.ours, point.other))
        noise = "" if point.beyond_noise else "within noise"
        table.add_row(point.name, a, b, Text(f"{point.ratio:.2f}x", "bold"), Text(noise, "dim"))
    for line in comparison.differences:
        table.add_row(Text("differs", "dim"), "", "", "", console.cell(line, "dim"))
    return table
