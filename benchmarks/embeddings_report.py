"""BENCHMARKS.md's section on embeddings in parts, from what embeddings.py measured."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks import origin
from benchmarks.markdown import table_head, table_row

Row = dict[str, Any]
NAMES = {"smollm2": "SmolLM2-135M", "tiny-plm": "tiny-plm"}


def section(data: dict[str, Any]) -> str:
    """The section, heading included, as Markdown. `data`: what embeddings.py or
    embeddings_synthetic.py wrote."""
    if data["model"] == "synthetic":
        return synthetic(data)
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
        "weighted by the importance of columns; gptq: rounded by what columns are multiplied by "
        "together; both by another text. Rows by bits.",
        "",
        *table_head(
            *("", "bits", "error", "head KL", "same likeliest", "input perplexity", "both KL"),
            *("both perplexity", "ln ratio"),
        ),
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
        lines.append(table_row(cells))
    where = data["machine"]
    lines += _speed(data["speed"])
    lines += _control(data["control"])
    lines += [
        "",
        f"{where['cpu']}, {where['threads']} threads; load averages before and after "
        f"{data['load'][0][0]} and {data['load'][1][0]}; "
        f"{origin.said_engine(data)}. Where rows are no "
        "whole blocks of 256, K-quants take rows one after the other, which a file cannot have. "
        f"Raw figures: `benchmarks/results/embeddings-{data['model']}.json`; again: "
        f"`python -m benchmarks.embeddings {data['model']}`.",
    ]
    return "\n".join(lines) + "\n"


def _control(rows: list[Row]) -> list[str]:
    names = [*rows[0]["errors"]]
    lines = [
        "",
        "The control: what tensor trains at twice lose of the vectors, of the vectors with their "
        "columns permuted, and of noise (relative errors, f16 cores, some 4,096 vectors). A shape "
        "that found something in the vectors would lose less of them.",
        "",
        *table_head("shape", "ranks", "ratio", *names),
    ]
    for row in rows:
        dims, ranks = ("x".join(map(str, row[name])) for name in ("dims", "ranks"))
        errors = (f"{row['errors'][name]:.3f}" for name in names)
        lines.append(table_row([dims, ranks, f"{row['ratio']:.2f}", *errors]))
    return lines


def _speed(rows: list[Row]) -> list[str]:
    """Files, and what they take; against the one that is as it was, and r1 against its rest's
    type."""
    lines = [
        "",
        "Files of `convert --embed`: processor time of a token on one thread, median of rounds in "
        "turns, and the median of what it takes more than the model as it is in the same round:",
        "",
        *table_head("embedding", "file, bytes", "load, ms", "CPU time a token, ms", "more"),
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
        lines.append(table_row(cells))
    return lines


def synthetic(data: Row) -> str:
    """The section on forms of the embedding of PLM-1.8B's shapes."""
    rows: list[Row] = data["rows"]
    base = [turn["tps"] for turn in rows[0]["turns"]]
    meters = [meter["name"] for meter in data["meters"]]
    head = ["embedding", "file, MB", "head reads, MB", "a token reads, MB", "load, s"]
    head += ["peak RSS, MB", "t/s (range)", "rate", *(f"{name}, J a token" for name in meters)]
    lines = [
        "## Smaller embeddings: PLM-1.8B's shapes",
        "",
        "**Synthetic weights**, q4_k_m with the text's rounding, each file made by "
        "`plm-edge convert --embed` of the first: 151,936 vectors of 2,048 values. Nothing is said "
        "of quality here. A process each, in turns whose order is turned round; "
        f"{data['tokens']} tokens from an empty context on, medians of {len(base)} rounds; rate: "
        "against the first file in the same round. What must be read is counted from the file's "
        "tensors and the rows that the engine says it read.",
        "",
        *table_head(*head),
    ]
    for row in rows:
        turns = row["turns"]
        rates = [turn["tps"] for turn in turns]
        ratio = median(a / b for a, b in zip(rates, base, strict=True))
        cells = [
            row["name"],
            f"{row['file_bytes'] / 1e6:,.0f}",
            f"{row['head_bytes'] / 1e6:,.0f}",
            f"{row['token_bytes'] / 1e6:,.0f}",
            f"{median(turn['load_s'] for turn in turns):.2f}",
            f"{median(turn['peak_rss'] for turn in turns) / 1e6:,.0f}",
            f"{median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})",
            f"{ratio:.3f}",
            *(_joules(turns, name, data["idle"], data["tokens"]) for name in meters),
        ]
        lines.append(table_row(cells))
    energy = (
        "Energy is what the meters say above what the machine takes by itself."
        if meters
        else "Energy: not measured here ("
        + "; ".join(f"{what}: {why}" for what, why in data["lacking"][:4])
        + ")."
    )
    where = data["machine"]
    lines += [
        "",
        energy,
        "",
        f"{where['cpu']}, {where['threads']} threads; load averages before and after "
        f"{' and '.join(str(one[0]) for one in data['load'])}; "
        f"{origin.said_engine(data)}. Raw figures: "
        "`benchmarks/results/embeddings-synthetic.json`; again: "
        "`python -m benchmarks.embeddings_synthetic --prepare`, then without it.",
    ]
    return "\n".join(lines) + "\n"


def _joules(turns: list[Row], name: str, idle: Row, tokens: int) -> str:
    found = [
        (turn["power"][name]["watts"] - idle[name]["watts"]) * turn["seconds"] / tokens
        for turn in turns
        if name in turn["power"] and name in idle
    ]
    return f"{median(found):.3f}" if found else "-"


def _with_error(estimate: list[float]) -> str:
    value, error = estimate
    return f"{value:.4f} ± {error:.4f}" if abs(value) < 1 else f"{value:.2f} ± {error:.2f}"


def _number(value: float) -> str:
    return f"{value:,.3f}" if value < 1000 else f"{value:,.0f}"
