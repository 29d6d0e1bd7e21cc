"""The measured part of the model card: README.md between its two markers, made from JSON.

The figures are never typed by hand, so the card cannot drift from evaluation.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, FINISH = "<!-- measured: begin -->", "<!-- measured: end -->"


def table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def training_table(training: dict[str, Any]) -> str:
    corpus, options = training["corpus"], training["options"]
    parts = [
        (
            f"corpus, {title}",
            f"{corpus[key]['files']:,} files, {corpus[key]['bytes']:,} bytes, "
            f"{corpus[key]['tokens']:,} tokens",
        )
        for key, title in (("train", "training"), ("held_out", "held out"))
    ]
    seen = training["step"] * options["batch_tokens"]
    rows = [
        ("CPython", training["python"]),
        ("corpus digest (sha256 of the files' sha256)", f"`{corpus['sha256']}`"),
        *parts,
        ("tokens seen", f"{seen:,} ({seen / corpus['train']['tokens']:.1f} epochs)"),
        ("torch, device", f"{training['torch']}, {training['device']}"),
        *((f"`--{k.replace('_', '-')}`", str(v)) for k, v in options.items()),
    ]
    return table(rows, ("training", ""))


def figures_table(result: dict[str, Any]) -> str:
    held, functions = result["held_out"], result["functions"]
    rows = [
        ("parameters", f"{result['parameters']:,}"),
        ("perplexity, a token", f"{held['perplexity']:.2f}"),
        ("cross entropy, nats a token", f"{held['nats_per_token']:.4f}"),
        ("bits a byte", f"{held['bits_per_byte']:.3f}"),
        (
            "for comparison: `xz -9` on the same text, bits a byte",
            f"{held['xz_bits_per_byte']:.3f}",
        ),
    ]
    for mode in ("greedy", "sampled"):
        part = functions[mode]
        rows += [
            (f"functions that parse, {mode}", f"{part['parse']:.1%}"),
            (f"functions that end within the limit, {mode}", f"{part['ended_within_limit']:.1%}"),
            (f"functions that end and parse, {mode}", f"{part['ended_and_parse']:.1%}"),
        ]
    rows.append(("for comparison: the files' own bodies", f"{functions['true_bodies_parse']:.1%}"))
    return table(rows, ("on the held-out files", ""))


def zeros_table(result: dict[str, Any]) -> str:
    zeros = result["zeros_after_relu2"]
    head = ("layer", *(str(n) for n in range(len(zeros["per_layer"]))), "mean")
    row = ("zeros after ReLU²", *(f"{z:.1%}" for z in (*zeros["per_layer"], zeros["mean"])))
    return table([row], head)


def positions_table(result: dict[str, Any]) -> str:
    losses = result["nats_by_position"]
    row = ("nats a token", *(f"{n:.3f}" for n in losses.values()))
    return table([row], ("position in a window of 2048", *losses))


def samples_text(result: dict[str, Any]) -> str:
    blocks = []
    for sample in result["samples"]:
        for mode in ("greedy", "sampled"):
            text = f"{sample['prompt']}▸{sample[mode]}".rstrip()
            blocks.append(f"{mode}:\n\n~~~python\n{text}\n~~~")
    return "\n\n".join(blocks)


def write_card(card: Path, checkpoint: Path, result: dict[str, Any]) -> None:
    """Replace what stands between the markers of `card`; raises ValueError without markers."""
    training = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
    old = card.read_text(encoding="utf-8")
    if BEGIN not in old or FINISH not in old:
        raise ValueError(f"{card} lacks the lines {BEGIN} and {FINISH}")
    measured = "\n\n".join(
        [
            figures_table(result),
            positions_table(result),
            zeros_table(result),
            training_table(training),
            "### Samples\n\n▸ marks where the prompt ends. First tries, 80 tokens, not chosen.",
            samples_text(result),
        ]
    )
    before, after = old.split(BEGIN)[0], old.split(FINISH)[1]
    part = card.with_name(card.name + ".part")
    part.write_text(f"{before}{BEGIN}\n{measured}\n{FINISH}{after}", encoding="utf-8")
    part.replace(card)
