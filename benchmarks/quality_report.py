"""BENCHMARKS.md's section on what each type costs, from what quality.py measured."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import origin
from benchmarks.markdown import table_head, table_row

Row = dict[str, Any]
SURELY = 2.0  # standard errors
NOTHING = 1e-5  # nats a token: the order of sums, in the model that is the reference itself


def farther(rows: list[Row]) -> list[tuple[Row, Row]]:
    """Rows of our layout, each with llama.cpp's of the same name where that has no more bytes and
    surely less divergence, by the difference at each token."""
    found = []
    stock = {(row["quant"], row["imatrix"]): row for row in rows if row["layout"] == "stock"}
    for row in rows:
        if row["layout"] != "edge":
            continue
        theirs = stock[row["quant"], row["imatrix"]]
        more, error = row["kl_less_stock"]
        worse = more > max(NOTHING, SURELY * error)
        if theirs["tensor_bytes"] <= row["tensor_bytes"] and worse:
            found.append((row, theirs))
    return found


def dominated(rows: list[Row]) -> list[str]:
    """Names of types that llama.cpp's of the same name beats in our layout by bytes, divergence and
    decode speed: such a one must change."""
    return [_name(row) for row, theirs in farther(rows) if not 0 < _speed(theirs) < _speed(row)]


def _name(row: Row) -> str:
    return f"{row['quant']}{' with imatrix' if row['imatrix'] else ''}"


def _speed(row: Row) -> float:
    """Tokens a second; 0 where nobody timed it."""
    return 1 / median(row["decode_s"]) if row["decode_s"] else 0.0


def section(data: dict[str, Any]) -> str:
    """The section, heading included, as Markdown. `data`: what quality.py wrote."""
    rows: list[Row] = data["rows"]
    by = {(row["quant"], row["layout"], row["imatrix"]): row for row in rows}
    lines = [
        "## What each type costs",
        "",
        f"tiny-plm on {rows[0]['judged_tokens']:,} tokens of Python source that neither trained it "
        "nor chose a mixture: KL divergence from the f32 model (nats a token, ± its standard "
        "error), then bytes of all tensors. stock is llama.cpp's layout and mixture, edge ours; "
        "im: with an importance matrix, made on other files. Change: what edge has more than "
        "stock, and its standard error over the differences at each token, in % of stock's.",
        "",
        *table_head("", "stock", "edge", "change", "stock im", "edge im", "change im"),
    ]
    for quant in dict.fromkeys(row["quant"] for row in rows):
        cells = []
        for weighted in (False, True):
            stock, edge = (by.get((quant, layout, weighted)) for layout in ("stock", "edge"))
            cells += [_cell(stock), _cell(edge), _change(stock, edge)]
        lines.append(table_row([quant, *cells]))
    lines += [
        "",
        "The same with bits a weight, perplexity and, where it was timed, decode speed:",
        "",
        *table_head(
            "",
            "layout",
            "im",
            "bits a weight",
            "perplexity",
            "KL, 99 %",
            "same likeliest",
            "decode, t/s",
        ),
    ]
    for row in rows:
        speed = f"{_speed(row):,.0f}" if row["decode_s"] else ""
        cells = [
            row["quant"],
            row["layout"],
            "yes" if row["imatrix"] else "",
            f"{row['bits_a_weight']:.2f}",
            f"{row['perplexity'][0]:.3f} ± {row['perplexity'][1]:.3f}",
            f"{row['kl_p99']:.4f}",
            f"{100 * row['same_top']:.1f} %",
            speed,
        ]
        lines.append(table_row(cells))
    beaten = dominated(rows)
    dear = [
        f"{_name(row)} ({_change(theirs, row)}, {_speed(row) / _speed(theirs) - 1:+.0%} t/s)"
        for row, theirs in farther(rows)
        if _name(row) not in beaten
    ]
    lines += [
        "",
        "Beaten by llama.cpp's type of the same name (no more bytes, less divergence by more than "
        f"{SURELY:.0f} standard errors, and decode no slower): "
        f"{', '.join(beaten) if beaten else 'none of ours'}. Faster at the same bytes, "
        f"and farther from the original: {', '.join(dear) if dear else 'none'}.",
        "",
        "![KL divergence against bytes](benchmarks/results/quality.svg)",
        "",
        "tiny-plm has 6.4 M weights: how much larger matrices, or other text, suffer is not shown.",
        "",
    ]
    lines += _long_context(data["long_context"])
    where = data["machine"]
    if data["speed_machine"]:
        cpu = data["speed_machine"]["cpu"]
        lines += [f"Decode speed: medians, all files in turns, on 1 thread of {cpu}.", ""]
    lines.append(
        f"{where['cpu']}, 1 thread; {origin.said_engine(data)}, "
        f"the standard library of Python {data['python']}. Raw figures: "
        "`benchmarks/results/quality.json`; again: `python -m benchmarks.quality`, "
        "of speed alone with `--speed`."
    )
    return "\n".join(lines) + "\n"


def _long_context(found: Row) -> list[str]:
    shares = [f"{found['n_ctx'] * part // 8:,}" for part in range(1, 9)]
    lines = [
        "### The latent cache over a long context",
        "",
        f"tiny-plm in f32, {found['n_ctx']:,} tokens at once: KL divergence from the cache in f32, "
        "mean over each eighth of the context up to the position above. Then a needle: the context "
        "begins with a name that is assigned, and ends where it is asked for; nats a token of that "
        "name, and of one that was not assigned.",
        "",
        *table_head("cache", *shares, "assigned", "another"),
    ]
    for kv, one in found["caches"].items():
        cells = [f"{kl:.2g}" for kl in one["by_position"]]
        cells += [f"{one['needle']:.3f}", f"{one['elsewhere']:.3f}"]
        lines.append(table_row([kv, *cells]))
    return [*lines, ""]


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    value, error = row["kl"]
    return f"{value:.5f} ± {error:.5f}, {row['tensor_bytes']:,}"


def _change(stock: Row | None, edge: Row | None) -> str:
    if stock is None or edge is None or stock["kl"][0] < NOTHING:
        return ""
    more, error = (100 * part / stock["kl"][0] for part in edge["kl_less_stock"])
    return f"{more:+.1f} ± {error:.1f} %"


def plot(data: dict[str, Any]) -> str:
    """KL divergence against bytes, as SVG. Needs matplotlib."""
    from plm_edge.bench.render import charts

    looks = {
        ("stock", False): (charts.OTHER, "o", "none"),
        ("stock", True): (charts.OTHER, "o", charts.OTHER),
        ("edge", False): (charts.OURS, "s", "none"),
        ("edge", True): (charts.OURS, "s", charts.OURS),
    }
    with charts.canvas(4.2) as (_, axes, made):
        for (layout, weighted), (colour, marker, face) in looks.items():
            points = [
                (row["tensor_bytes"] / 1e6, row["kl"][0])
                for row in data["rows"]
                if (row["layout"], row["imatrix"]) == (layout, weighted) and row["kl"][0] > 1e-5
            ]
            label = layout + (" with imatrix" if weighted else "")
            axes.plot(*zip(*points, strict=True), marker, color=colour, mfc=face, ms=4, label=label)
        axes.set(xlabel="MB of tensors", ylabel="KL divergence, nats a token", yscale="log")
        axes.legend()
    return made[0] + "\n"
