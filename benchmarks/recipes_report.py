"""BENCHMARKS.md's section on the mixtures of the edge layout, from what recipes.py measured."""

from __future__ import annotations

from typing import Any

from benchmarks import origin
from benchmarks.markdown import table_head, table_row
from plm_edge.converters.plan.plm import Kind
from plm_edge.converters.plan.recipes import RECIPES

NAMES = {
    "embedding": "token_embd",
    "attn_q": "attn_q",
    "attn_kv_a": "attn_kv_a",
    "attn_kv_b": "attn_kv_b",
    "attn_out": "attn_output",
    "ffn_up": "ffn_up",
    "ffn_down": "ffn_down",
}
# Less gain is luck of the text. What is taken is smaller in any case, and quality.py judges it by a
# third text.
CLEARLY = 0.97
CANNOT = (
    "What tiny-plm cannot show. It has 6.4 M weights and was trained on Python source: how much "
    "larger matrices, or other text, suffer is extrapolated. Its vocabulary is 4096, PLM-1.8B's "
    "151,936: that the tied embedding (a sixth of the weights in both) may take a lower type than "
    "llama.cpp's q6_k is the weakest of the conclusions, and the first to measure again with a "
    "real checkpoint. The search had no importance matrix. `--layout stock` has "
    "llama.cpp's mixtures; so has the edge layout with a `--recipe FILE` that names no more than "
    "its base."
)


def better(quant: dict[str, Any]) -> bool:
    """Whether the mixture that one half of the text chose is taken: it beats llama.cpp's on both,
    clearly."""
    ours, theirs = quant["candidates"][0], quant["upstream"]
    return all(ours[key] < CLEARLY * theirs[key] for key in ("kl_chosen_on", "kl_confirmed_on"))


def section(data: dict[str, Any]) -> str:
    """The section, heading included, as Markdown. `data`: what recipes.py wrote."""
    positions = data["windows"] * data["window_tokens"] // 2
    lines = [
        "## Mixtures of the edge layout",
        "",
        "KL divergence from the f32 model (nats a token, the less the better), of tiny-plm on "
        f"Python source that it was not trained on: {positions:,} positions on which the mixture "
        f"was chosen, and {positions:,} of other files that played no part in it. Sizes of "
        "PLM-1.8B's matrices, and what a token reads of them if "
        f"{data['rows_read']:.0%} of W_down's rows are read (an assumption); file sizes of "
        "tiny-plm. llama.cpp's mixture, then ours, which is taken where the divergence is at "
        f"least {1 - CLEARLY:.0%} less on both halves. The section above judges all by other "
        "text, and with an importance matrix.",
        "",
        *table_head(
            "", "chosen on", "confirmed on", "tiny-plm, bytes", "PLM-1.8B, MB", "MB a token"
        ),
    ]
    for name, quant in data["quants"].items():
        ours, theirs = quant["candidates"][0], quant["upstream"]
        cells = [
            *(f"{theirs[k]:.5f} → {ours[k]:.5f}" for k in ("kl_chosen_on", "kl_confirmed_on")),
            f"{theirs['file_bytes']:,} → {ours['file_bytes']:,}",
            *(
                f"{theirs['sizes'][k] / 1e6:,.0f} → {ours['sizes'][k] / 1e6:,.0f}"
                for k in ("plm_1_8b", "decode")
            ),
        ]
        kept = "" if better(quant) else " (llama.cpp's is kept)"
        lines.append(table_row([f"{name}{kept}", *cells]))
    titles = [NAMES[kind] for kind in data["kinds"]]
    lines += [
        "",
        "Our mixtures, the same in all layers. Those of types that are not above were made by hand "
        "from the table below: the embedding takes one type less and pays for the matrices that "
        "suffer most for a byte, and the MLP keeps the type of the name. (q5_0: q5_k, of the same "
        "size, in all of attention.)",
        "",
        *table_head("", *titles),
    ]
    for name, recipe in RECIPES.items():
        if recipe.edge:
            types = (recipe.edge[Kind[kind.upper()]].name.lower() for kind in data["kinds"])
            lines.append(table_row([name, *types]))
    lines += [
        "",
        "What each kind costs in KL divergence when it alone has the type and all else is f32:",
        "",
        *table_head("", *titles),
    ]
    for type_ in next(iter(data["harm"].values())):
        cells = [f"{data['harm'][kind][type_]:.5f}" for kind in data["kinds"]]
        lines.append(table_row([type_, *cells]))
    lines += [
        "",
        CANNOT,
        "",
        f"{origin.said_engine(data)}, the "
        f"standard library of Python {data['python']}. Raw figures, with the candidates that were "
        "not chosen: `benchmarks/results/recipes.json`; again: `python -m benchmarks.recipes`.",
    ]
    return "\n".join(lines) + "\n"
