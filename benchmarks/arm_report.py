"""BENCHMARKS.md's section on ARM cores, from what arm_cycles.py estimated."""

from __future__ import annotations

from typing import Any

from benchmarks import origin
from benchmarks.markdown import table_head, table_row

Row = dict[str, Any]
LABELS = {
    "product": "product, {}",
    "plain": "product of rows as the file has them (W_vb, exact logits), {}",
    "transposed": "query into the latent (W_kb), {}",
    "planes": "W_up in planes, one neuron in ten above zero, {}",
    "upper": "its upper bits alone, {}",
    "lower": "its lower bits alone, {}",
    "rows": "down projection over used rows, {}",
    "codes": "output matrix, codes of {}",
    "attention": "attention over the latent cache, {}",
}
WHAT = (
    "**These are estimates: no ARM core was at hand.** Each figure is cycles a byte of weights or "
    "of latent cache, of one core. An operation runs under qemu, built as for the device, and "
    "llvm-mca (LLVM {llvm}) lets a model of the core execute the instructions that qemu executed. "
    "Such a model sees ports and latencies. It does not see caches that miss, branches that are "
    "not foreseen, pages, nor other cores. The budget is what a core may spend before memory "
    "waits for it, from the device's profile."
)
SIDES = (
    "Dense products are upstream's code on ARM, which ours runs as well. In place of the down "
    "projection over used rows upstream computes its dense product over all rows: ten times the "
    "bytes where 90 % are zero. Upstream's attention is ggml's flash attention over the same "
    "latent cache."
)


def line(core: str, row: Row, limit: float | None) -> str:
    """One kernel on one core, for a terminal."""
    ours, theirs = row["ours"]["cycles_a_byte"], row.get("upstream")
    said = f"{core}, {LABELS[row['kind']].format(row['type'])}: estimate {ours:.2f} cycles a byte"
    if theirs:
        said += f", upstream's {theirs['cycles_a_byte']:.2f}"
    return said + (f", budget {limit:.2f}{', OVER' if ours > limit else ''}" if limit else "")


def over(one: dict[str, Any]) -> list[str]:
    """Kernels of a core that take more cycles a byte than its budget."""
    if not one["budget"]:
        return []
    limit = one["budget"]["cycles"]
    return [row["kernel"] for row in one["kernels"] if row["ours"]["cycles_a_byte"] > limit]


def section(data: dict[str, Any]) -> str:
    """The section, heading included, as Markdown. `data`: what arm_cycles.py wrote."""
    lines = [
        "## ARM cores, estimated",
        "",
        WHAT.format(llvm=data["llvm"]),
        "",
        "Command: `python -m benchmarks.arm_cycles --write`.",
        "",
    ]
    for one in data["cores"]:
        lines += _core(one)
    return "\n".join([*lines, SIDES])


def _core(one: dict[str, Any]) -> list[str]:
    model, limit, beyond = one["model"], one["budget"], over(one)
    said = "Its profile names no bandwidth of memory, so there is no budget."
    if limit:
        said = f"Budget: {limit['cycles']:.2f} cycles a byte ({limit['how']})."
    lines = [
        f"### {one['core']} ({one['title']})",
        "",
        f"Model: LLVM's of {model['of']}, {model['width']} operations a cycle. Compiled by "
        f"{one['compiler']} for {' '.join(one['target'])}. {said} "
        f"{origin.said_commit(one)}.",
        "",
        *table_head("cycles a byte, estimate", "ours", "upstream's", ""),
    ]
    for row in one["kernels"]:
        theirs = row.get("upstream")
        cells = (
            LABELS[row["kind"]].format(row["type"]),
            f"{row['ours']['cycles_a_byte']:.2f}",
            f"{theirs['cycles_a_byte']:.2f}" if theirs else "the same code",
            "over budget" if row["kernel"] in beyond else "",
        )
        lines.append(table_row(cells))
    return [*lines, ""]
