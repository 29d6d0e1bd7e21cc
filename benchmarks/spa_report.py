"""The section of BENCHMARKS.md on SPA, from results/spa.json."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def section(data: dict[str, Any]) -> str:
    """Markdown. `data` is a result of benchmarks/spa.py, schema …/benchmark-spa/1; a part that was
    not measured is left out."""
    parts = ["## A frozen base and a personal plugin\n"]
    for name, render in (
        ("worth", _worth),
        ("compared", _worth),
        ("link", _link),
        ("states", _states),
    ):
        if name in data:
            parts += [render(data[name]), _where(data[name])]
    return "\n".join(parts)


def _where(part: dict[str, Any]) -> str:
    where, source = part["machine"], part["source"]
    return (
        f"{part['model']}, {where['cpu']}, threads: {where['threads']}, {part['date'][:10]}, "
        f"commit {source['commit'][:12]}{' with changes' if source['changed'] else ''}. Load "
        f"before {part['load_average']['before'][0]} on {where['cpus']} CPUs: with more load than "
        f"CPUs the machine was busy with other programs. Measure it again: `{part['command']}`.\n"
    )


def _worth(part: dict[str, Any]) -> str:
    base = next(row for row in part["rows"] if row["name"] == "base")
    lines = ["| perplexity | trained values | personal | of base | general | of base |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for row in part["rows"]:
        cells = [row["name"], f"{row['size']:,}" if row["size"] else "-"]
        for kind in ("personal", "general"):
            share = statistics.mean(row[kind]) / statistics.mean(base[kind])
            cells += [_spread(row[kind]), f"{share:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    seeds = "one seed" if part["seeds"] == 1 else f"mean and deviation of {part['seeds']} seeds"
    return (
        f"Personal: this project's pages at {part['commit']}, {part['trained']:,} tokens to learn "
        f"from, {part['personal']:,} of other pages to judge by. General: {part['general']:,} "
        f"tokens of Python's help. {seeds.capitalize()}.\n\n" + "\n".join(lines) + "\n"
    )


def _spread(found: Sequence[float]) -> str:
    mean = statistics.mean(found)
    return f"{mean:.1f} ± {statistics.stdev(found):.1f}" if len(found) > 1 else f"{mean:.1f}"


def _link(part: dict[str, Any]) -> str:
    """Measured rates beside 1 / (t_d + q (RTT + 1 ms)), t_d from the rate without round trip."""
    points = {(p["rtt_ms"], p["rate"]): p for p in part["points"]}
    step = 1 / points[0, 0.0]["tps"]
    lines = ["| round trip | ping-pong | no override | 2 % | 20 % |", "|---|---|---|---|---|"]
    for rtt in sorted({key[0] for key in points}):
        cells = [f"{rtt} ms"]
        for rate in (1.0, 0.0, 0.02, 0.2):
            point = points[rtt, rate]
            share = point["overrides"] / part["tokens"]
            formula = 1 / (step + share * (rtt / 1000 + 0.001))
            cells.append(f"{point['tps']:.1f} ({formula:.1f})")
        lines.append("| " + " | ".join(cells) + " |")
    quiet = points[0, 0.0]
    return (
        f"Tokens a second, beside what the formula gives in brackets; the base here, without a "
        f"server: {part['direct']['tps']:.1f}.\n\n" + "\n".join(lines) + "\n\n"
        f"The device, without overrides: {quiet['bytes_down_a_token']:.0f} bytes down a token, "
        f"{quiet['bytes_up']} up in all for {part['tokens']} tokens; "
        f"{1000 * quiet['cpu_s_a_token']:.1f} ms of CPU a token, {quiet['rss_mib']:.0f} MiB.\n"
    )


def _states(part: dict[str, Any]) -> str:
    found = {how: statistics.median(times) for how, times in part["seconds_a_token"].items()}
    rows = [
        f"| {how} | {1 / seconds:.1f} | {found['without'] / seconds:.3f} |"
        for how, seconds in found.items()
    ]
    return (
        f"Decoding while the inputs of {len(part['layers'])} layers are kept, in turns, the median "
        "of the rounds' medians:\n\n| states | tokens a second | share |\n|---|---|---|\n"
        + "\n".join(rows) + "\n"
    )  # fmt: skip
