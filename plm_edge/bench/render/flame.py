"""The flame-like picture of a profile: phase, operation, part and layers, wide as their time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jinja2

from plm_edge.bench.render import charts
from plm_edge.bench.result.suites import Phase, Profile, Stack

_TEMPLATE = Path(__file__).with_name("flame.html.j2")
_COLOURS = ("#d1495b", "#edae49", "#66a182", "#2e86ab", "#8d96a3", "#a06cd5", "#f18f01", "#5b8e7d")
_LEGIBLE = 0.035  # share of the width below which a name does not fit


def html(profile: Profile) -> str:
    """The page with one picture a phase. Needs matplotlib.

    Raises:
        PlmEdgeError: it is not installed.
    """
    phases = profile.phases
    environment = jinja2.Environment(autoescape=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=profile.model.rsplit("/", 1)[-1],
        pictures=[(phase, picture(phase)) for phase in phases],
        slowdown=max(phase.slowdown for phase in phases),
    )


def picture(phase: Phase) -> str:
    """One phase as SVG."""
    bars = rows(phase.stacks)
    with charts.canvas(3.4) as (figure, axes, made):
        figure.set_size_inches(9.5, 3.4)
        for level, start, width, name, colour in bars:
            axes.broken_barh(
                [(start, width)], (3 - level, 0.95), color=colour, edgecolor="white", lw=0.4
            )
            if width > _LEGIBLE * min(1.5, len(name) / 8 + 0.3):
                room = int(width * 130)
                text = name if len(name) <= room else name[: max(1, room - 1)] + "…"
                axes.text(start + width / 2, 3.47 - level, text, ha="center", va="center", size=8)
        axes.set_xlim(0, 1)
        axes.set_axis_off()
    return made[0]


def rows(stacks: list[Stack]) -> list[tuple[int, float, float, str, str]]:
    """The picture's bars: (level, start, width, name, colour), shares of the whole, widest first.

    Level 0 is all, 1 the operations, 2 their parts, 3 the layers of a part.
    """
    total = sum(stack.seconds for stack in stacks)
    bars = [(0, 0.0, 1.0, "all", "#d0d7de")]
    groups = _grouped(stacks, lambda stack: stack.op)
    at = 0.0
    for index, (op, inside) in enumerate(groups):
        colour = _COLOURS[index % len(_COLOURS)]
        bars.append((1, at, _sum(inside) / total, op, colour))
        for part, layers in _grouped(inside, lambda stack: stack.part):
            bars.append((2, at, _sum(layers) / total, part, colour + "bb"))
            for stack in sorted(layers, key=lambda one: one.layer or 0):
                width = stack.seconds / total
                name = "" if stack.layer is None else str(stack.layer)
                bars.append((3, at, width, name, colour + "77"))
                at += width
    return bars


def _grouped(stacks: list[Stack], by: Callable[[Stack], str]) -> list[tuple[str, list[Stack]]]:
    groups: dict[str, list[Stack]] = {}
    for stack in stacks:
        groups.setdefault(by(stack), []).append(stack)
    return sorted(groups.items(), key=lambda item: -_sum(item[1]))


def _sum(stacks: list[Stack]) -> float:
    return sum(stack.seconds for stack in stacks)
