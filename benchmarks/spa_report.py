"""The section of BENCHMARKS.md on SPA, from results/spa.json."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import origin
from benchmarks.markdown import table_head, table_row


def section(data: dict[str, Any]) -> str:
    """Markdown. `data` is a result of benchmarks/spa.py, schema …/benchmark-spa/1; a part that was
    not measured is left out."""
    parts = ["## A frozen base and a personal plugin\n"]
    for name, render in (
        ("worth", _worth),
        ("train", _train),
        ("link", _link),
        ("loss", _loss),
        ("states", _states),
    ):
        if name in data:
            parts += [render(data[name]), _where(data[name])]
    return "\n".join(parts)


def _where(part: dict[str, Any]) -> str:
    where = part["machine"]
    return (
        f"{part['model']}, {where['cpu']}, threads: {where['threads']}, {part['date'][:10]}. "
        f"{origin.said_commit(part)}. Load "
        f"before {part['load_average']['before'][0]} on {where['cpus']} CPUs: with more load than "
        f"CPUs the machine was busy with other programs. Measure it again: `{part['command']}`.\n"
    )


def _worth(part: dict[str, Any]) -> str:
    base = next(row for row in part["rows"] if row["name"] == "base")
    lines = table_head("perplexity", "trained values", "personal", "of base", "general", "of base")
    for row in part["rows"]:
        cells = [row["name"], f"{row['size']:,}" if row["size"] else "-"]
        for kind in ("personal", "general"):
            share = statistics.mean(row[kind]) / statistics.mean(base[kind])
            cells += [_spread(row[kind]), f"{share:.2f}"]
        lines.append(table_row(cells))
    seeds = "one seed" if part["seeds"] == 1 else f"mean and deviation of {part['seeds']} seeds"
    return (
        f"Personal: this project's pages at {part['commit']}, {part['trained']:,} tokens to learn "
        f"from, {part['personal']:,} of other pages to judge by. General: {part['general']:,} "
        f"tokens of Python's help. {seeds.capitalize()}.{_lora(part)}\n\n"
        + "\n".join(lines) + "\n" + _wanted(part)
    )  # fmt: skip


def _lora(part: dict[str, Any]) -> str:
    if not part.get("lora"):
        return ""
    seeds = len(part["lora"])
    steps = ", ".join(str(one["steps"]) for one in part["lora"])
    kept = ", ".join(f"{one['best_epoch']} of {one['epochs']}" for one in part["lora"])
    return (
        f" LoRA, with {seeds} of the seeds, has rank {part['rank']} on all queries and values; its "
        f"trainings took {steps} steps of 512 tokens, and held-back text chose the passes {kept}."
    )


def _wanted(part: dict[str, Any]) -> str:
    """What the whole plugin was to reach, and whether it does; empty where its row is not there."""
    mean = {
        (row["name"], kind): statistics.mean(row[kind])
        for row in part["rows"] for kind in ("personal", "general")
    }  # fmt: skip
    whole = "side and memories"
    if (whole, "personal") not in mean:
        return ""
    personal = mean[whole, "personal"]
    wanted = {
        "at most 0.6 of the base's personal perplexity":
            personal <= 0.6 * mean["base", "personal"],
        "better than memory alone": personal < mean["both memories alone, gate", "personal"],
        "general at most 1.05": mean[whole, "general"] <= 1.05 * mean["base", "general"],
    }  # fmt: skip
    for name in ("LoRA", "LoRA, soft gate"):
        if (name, "personal") in mean:
            wanted[f"better than {name}"] = personal < mean[name, "personal"]
    found = "; ".join(f"{what}: {_met(met)}" for what, met in wanted.items())
    return f"\nWhat was wanted of side and memories together. {found[0].upper()}{found[1:]}.\n"


def _train(part: dict[str, Any]) -> str:
    lines = table_head(
        "base", "tokens", "codec, once", "reading", "training", "in all", "plugin", "memory"
    )
    lines += [
        f"| {one['name']} | {one['tokens']:,} | {one['codec_s'] / 60:.1f} min | "
        f"{one['read_s'] / 60:.1f} min | {one['train_s'] / 60:.1f} min | "
        f"{one['all_s'] / 60:.1f} min | {one['size'] / 1e6:.1f} MB | "
        f"{one['peak_rss_bytes'] / 2**20:.0f} MiB |"
        for one in part["models"]
    ]
    return "`plm-edge spa train`, nothing kept from before:\n\n" + "\n".join(lines) + "\n"


def _spread(found: Sequence[float]) -> str:
    mean = statistics.mean(found)
    return f"{mean:.1f} ± {statistics.stdev(found):.1f}" if len(found) > 1 else f"{mean:.1f}"


def _link(part: dict[str, Any]) -> str:
    """Measured rates beside the formula, 1 / (t_d + q (RTT + 1 ms)); in ping-pong q is 1. t_d is of
    the base alone."""
    points = {(p["rtt_ms"], -1.0 if p["ping_pong"] else p["rate"]): p["rounds"]
              for p in part["points"]}  # fmt: skip
    every = [r for rounds in points.values() for r in rounds]
    alone = statistics.median(r["direct_tps"] for r in every if r["direct_tps"])
    count = part["tokens"]
    lines = table_head("round trip", "ping-pong", "no override", "of the base alone", "2 %", "20 %")
    shares = {}
    for rtt in sorted({key[0] for key in points}):
        cells = []
        for rate in (-1.0, 0.0, 0.02, 0.2):
            rounds = points[rtt, rate]
            said = 1.0 if rate < 0 else statistics.median(r["overrides"] for r in rounds) / count
            formula = 1 / (1 / alone + said * (rtt / 1000 + 0.001))
            tps = statistics.median(r["tps"] for r in rounds)
            cells.append(f"{tps:.1f} ({formula:.1f})")
            if rate == 0:
                found = [r["tps"] / r["direct_tps"] for r in rounds]
                shares[rtt] = statistics.median(found)
                cells.append(f"{shares[rtt]:.2f} ({min(found):.2f} to {max(found):.2f})")
        lines.append(table_row([f"{rtt} ms", *cells]))
    kept = [r for key, rounds in points.items() for r in rounds if key[1] == 0]
    down = max(r["bytes_down_a_token"] for r in kept)
    over = [r["bytes_up"] - most_up(r, count) for key, rounds in points.items() for r in rounds
            if key[1] >= 0]  # fmt: skip
    wasted = max(r["bytes_down_a_token"] for r in every)
    cpu = statistics.median(r["cpu_s_a_token"] for r in every)
    return (
        f"Tokens a second, in brackets 1 / (t + q (round trip + 1 ms)), where t is the base's own "
        f"time and q the share of overrides, in ping-pong 1; the median of "
        f"{len(points[0, 0.0])} rounds of {count} tokens. The base alone, without states and "
        f"without a link: {alone:.1f}; it ran again before each text without overrides, whose "
        f"share is of that. Server, device and relay share the machine's CPUs{_bound(part)}.\n\n"
        + "\n".join(lines)
        + "\n\n"
        f"With the gate at the base at least 0.95 of the base alone at every round trip: "
        f"{_met(min(shares.values()) >= 0.95)}. Down, without overrides, at most 900 bytes a "
        f"token: {_met(down <= 900)} ({down:.0f}); what the server computed beyond an override "
        f"comes on top, up to {wasted:.0f} bytes a token here. Up at most 64 + 4 a token of the "
        f"prompt + 12 an override + 8 for each 16 tokens: {_met(max(over) <= 0)}. The longest wait "
        f"for a token was {max(r['longest_s'] for r in every):.2f} s, and "
        f"{sum(r['resumed'] for r in every)} links were lost. The device: {1000 * cpu:.1f} ms of "
        f"CPU a token with the plugin's decision, "
        f"{max(r['rss_mib'] for r in every):.0f} MiB in all. {_energy(part)}\n"
    )


def _energy(part: dict[str, Any]) -> str:
    """Of texts without overrides that the server computes ahead."""
    found = [r["joules_a_token"] for p in part["points"] if p["rate"] == 0 and not p["ping_pong"]
             for r in p["rounds"] if r.get("joules_a_token") is not None]  # fmt: skip
    if not found:
        return "Energy was not measured here: this machine has no meter."
    by = " and ".join(part["meters"])
    return (
        f"Without overrides a token took {_spread(found)} J by {by}: server, device and relay "
        "together, idling included."
    )


def _bound(part: dict[str, Any]) -> str:
    bound = "; device and relay, which stand for other machines, are kept to one of them"
    return bound if part.get("device_cpus") == 1 else ""


def most_up(found: dict[str, Any], count: int) -> int:
    """Bytes of messages that may go up for a text."""
    return int(64 + 4 * found["prompt"] + 12 * found["overrides"] + 8 * -(-count // 16))


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _loss(part: dict[str, Any]) -> str:
    """The longest time without a token, by how the link was harmed, and what went on."""
    lines = table_head("link", "the server, taken up again", "the base here")
    for how, kinds in part["seconds"].items():
        cells = [f"{max(kinds[kind]):.2f} s" for kind in ("server", "here")]
        lines.append(table_row([how, *cells]))
    places = len(next(iter(part["seconds"].values()))["server"])
    longest = max(max(gaps) for kinds in part["seconds"].values() for gaps in kinds.values())
    return (
        f"The longest time without a token where a link is harmed, of {places} places each in a "
        f"text of {part['tokens']} tokens, round trip {part['rtt_ms']} ms. A stall lasts 10 s; "
        f"beside the base here the server is gone for good. The next token within 2 s: "
        f"{_met(longest <= 2)}.\n\n" + "\n".join(lines) + "\n" + _opening(part)
    )  # fmt: skip


def _opening(part: dict[str, Any]) -> str:
    if "opening" not in part:
        return ""
    lines = table_head("link, at the opening", "the server, asked again", "the base here")
    for how, kinds in part["opening"].items():
        name = "not harmed" if how == "none" else how
        lines.append(table_row([name, *(f"{kinds[kind]:.2f} s" for kind in ("server", "here"))]))
    return (
        "\nThe time until the first token where a link is harmed before there is one: the longest "
        "of three, at its first byte, in the handshake and in the answer to the prompt. The base "
        "here is loaded meanwhile.\n\n" + "\n".join(lines) + "\n"
    )


def _states(part: dict[str, Any]) -> str:
    rows = []
    for model in part["models"]:
        found = {how: min(times) for how, times in model["seconds_a_token"].items()}
        rows += [
            f"| {model['name']} | {how} | {1 / seconds:.1f} | {found['without'] / seconds:.3f} |"
            for how, seconds in found.items()
        ]
    count = len(part["models"][0]["layers"])
    lines = [*table_head("model", "states", "tokens a second", "share"), *rows]
    return (
        f"Decoding while the inputs of {count} layers are kept, in turns; of the rounds' medians "
        "the least, which other programs disturbed least:\n\n" + "\n".join(lines) + "\n"
    )
