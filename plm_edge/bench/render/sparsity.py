"""The sparsity of a model's MLP as one HTML file."""

from __future__ import annotations

import numpy as np

from plm_edge.bench.render import charts, report
from plm_edge.quality.sparsity import PARTS, Sparsity


def html(found: Sparsity, model: str, text: str) -> str:
    """The whole page. Needs matplotlib (extra `report`).

    Args:
        model, text: what they are called.

    Raises:
        PlmEdgeError: it is not installed.
    """
    return report.page(
        "sparsity.html.j2",
        found=found,
        model=model,
        text=text,
        pictures=[
            ("Zeros by layer", _by_layer(found), "share of neurons, mean over tokens"),
            ("Hot and cold neurons", _hot_and_cold(found), "share of a layer's neurons"),
            ("Zeros by position", _by_position(found), "each layer, and their mean"),
        ],
    )


def _by_layer(found: Sparsity) -> str:
    layers = [one.layer for one in found.layers]
    with charts.canvas() as (_, axes, made):
        alone = [one.zeros for one in found.layers]
        axes.plot(layers, alone, "o-", color=charts.OURS, label="one token")
        for count, colour in ((2, charts.THIRD), (8, charts.OTHER)):
            shares = [one.together.get(count, np.nan) for one in found.layers]
            if not np.isnan(shares).all():
                label = f"{count} sequences together"
                axes.plot(layers, shares, ".--", color=colour, label=label)
        axes.set(xlabel="layer", ylim=(0, 1))
        axes.legend()
    return made[0]


def _hot_and_cold(found: Sparsity) -> str:
    layers = [one.layer for one in found.layers]
    with charts.canvas() as (_, axes, made):
        for name, colour, words in (
            ("hot", charts.OTHER, "at half of the tokens or more"),
            ("cold", charts.OURS, "at one in a hundred or fewer"),
            ("never", charts.THIRD, "at none"),
        ):
            shares = [getattr(one, name) for one in found.layers]
            axes.plot(layers, shares, ".-", color=colour, label=f"active {words}")
        axes.set(xlabel="layer", ylim=(0, 1))
        axes.legend()
    return made[0]


def _by_position(found: Sparsity) -> str:
    middles = (np.arange(PARTS) + 0.5) * found.n_ctx / PARTS
    shares = np.array([one.by_position for one in found.layers])
    with charts.canvas() as (_, axes, made):
        axes.plot(middles, shares.T, color="#8c959f", linewidth=0.6)
        axes.plot(middles, shares.mean(0), "o-", color=charts.OURS)
        axes.set(xlabel="position in the chunk", ylim=(0, 1))
    return made[0]
