"""BENCHMARKS.md's section on embeddings in parts, from what embeddings.py measured."""

from __future__ import annotations

from statistics import median
from typing import Any

Row = dict[str, Any]
NAMES = {"smollm2": "SmolLM2-135M", "tiny-plm": "tiny-plm"}


def section(data: dict[str, Any]) -> str:
    """The section, heading included, as Markdown. `data`: what embeddings.py wrote."""
    rows: list[Row] = data["rows"]
    reference = rows[0]["reference"]
    lines = [
        f"## Smaller embeddings: {NAMES[data['model']]}",
        "",
        f"{data['tokens']:,} vectors of {data['width']} values, tied to the output matrix; "
        f"{reference['tokens']:,} judged tokens, perplexity {reference['perplexity']:.3f} as it "
        "is. Ê stands for E in the head, at the input, or in both; KL divergence from the model "
        "as it is (nats a token, ± its standard error), perplexity, and its logarithm less the "
        "model's own (paired, ± its standard error). Bits: all that is stored, a value of E. im: "
        "weighted by the importance of columns, which another text gave. Rows by bits.",
        "",
        "| | bits | error | head KL | same likeliest | input perplexity | both KL "
        "| both perplexity | ln ratio |",
        "|---" * 9 + "|",
    ]
    for row in sorted(rows, key=lambda row: -row["bits"]):
        head, given, both = (row[name] for name in ("head", "input", "both"))
        cells = [
            row["name"],
            f"{row['bits']:.2f}",
            f"{row['error']:.3f}",
            _with_error(head["kl"]),
            f"{100 * head['same_top']:.1f} %",
            _number(given["perplexity"]),
            _with_error(both["kl"]),
            _number(both["perplexity"]),
            _with_error(both["ln_ratio"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    control = ", ".join(f"{name} {error:.3f}" for name, error in data["control"].items())
    pin, where = data["pin"], data["machine"]
    lines += _speed(data["speed"])
    lines += [
        "",
        f"The control, errors of tensor trains at twice: {control}. A shape that found something "
        "in the vectors would lose less of them than of noise.",
        "",
        f"{where['cpu']}, {where['threads']} threads; load averages before and after "
        f"{data['load'][0][0]} and {data['load'][1][0]}: times are beside other programs; plm-edge "
        f"{data['plm_edge']}, llama.cpp of {pin['package']} {pin['version']}. Where rows are no "
        "whole blocks of 256, K-quants take rows one after the other, which a file cannot have. "
        f"Raw figures: `benchmarks/results/embeddings-{data['model']}.json`; again: "
        f"`python -m benchmarks.embeddings {data['model']}`.",
    ]
    return "\n".join(lines) + "\n"


def _speed(rows: list[Row]) -> list[str]:
    """Files, and what they take; against the one that is as it was, and r1 against its rest's
    type."""
    lines = [
        "",
        "Files of `convert --embed`: processor time of a token on one thread, median of rounds in "
        "turns, and the median of what it takes more than the model as it is in the same round:",
        "",
        "| embedding | file, bytes | load, ms | CPU time a token, ms | more |",
        "|---" * 5 + "|",
    ]
    base = rows[0]["cpu_s"]
    for row in rows:
        more = median(100 * (a / b - 1) for a, b in zip(row["cpu_s"], base, strict=True))
        cells = [
            row["name"],
            f"{row['file_bytes']:,}",
            f"{1000 * median(row['load_s']):.0f}",
            f"{1000 * median(row['cpu_s']):.2f}",
            "" if row is rows[0] else f"{more:+.1f} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _with_error(estimate: list[float]) -> str:
    value, error = estimate
    return f"{value:.4f} ± {error:.4f}" if abs(value) < 1 else f"{value:.2f} ± {error:.2f}"


def _number(value: float) -> str:
    return f"{value:,.3f}" if value < 1000 else f"{value:,.0f}"
