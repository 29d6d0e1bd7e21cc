"""Where a token goes: seconds by kind of operation and by layer, from ggml's scheduler callback.

The callback makes the scheduler compute each node alone and wait for it, so nodes that would have
followed one another at once are apart: `slowdown` tells by how much the whole became slower, and
shares are what to read.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import runner
from plm_edge.bench.result.suites import EngineSource, Phase, Profile, Share, Stack
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.worker.events import Sample
from plm_edge.bench.workload import Point, Workload
from plm_edge.engine import library

SCHEMA: Literal["plm-edge/profile/1"] = "plm-edge/profile/1"
# three samples, whatever their spread; the one with the median total is shown
_REPEATS = Workload("profile", interval=-1.0, budget_s=0.0, min_repeats=3, max_repeats=3)
_LAYER = re.compile(r"^(.*?)-(\d+)(?: .*)?$")


@dataclass(frozen=True)
class Node:
    """One node of the graph: ggml's operation, the name that the model's graph gave it, and the
    seconds that it took."""

    op: str
    name: str
    seconds: float

    @property
    def layer(self) -> int | None:
        """The layer, which llama.cpp writes behind a name: "ffn_up-3"; None outside of layers."""
        match = _LAYER.match(self.name)
        return int(match[2]) if match else None

    @property
    def part(self) -> str:
        """The name without its layer; "(unnamed)" where the graph gave none."""
        match = _LAYER.match(self.name)
        name = match[1] if match else self.name.split(" (")[0]
        return "(unnamed)" if re.match(r"node_\d+$|^$", name) else name


def measure(setting: Setting, n_prefill: int = 512, depth: int = 512) -> Profile:
    """Profile prefill of `n_prefill` tokens, and decode after `depth`.

    Raises:
        PlmEdgeError: the model cannot be run so.
    """
    points = Point("prefill", n_prefill), Point("decode", 16, depth)
    try:
        phases = [phase(setting, point) for point in points]
    except PlmEdgeError as error:
        if error.code != ExitCode.RESOURCES:
            raise
        fix = "lower --prefill, --depth or --kv, close other programs, or take a smaller model"
        raise PlmEdgeError(error.what, error.why, fix, error.code) from error
    info = library.load().info
    return Profile(
        schema=SCHEMA,
        model=str(setting.model.resolve()),
        engine=EngineSource(pin=info.pin, tree=info.tree),
        phases=phases,
    )


def phase(setting: Setting, point: Point) -> Phase:
    """One phase's nodes, the repeat with the median total; and the time without a callback."""
    plain = _median(runner.measure(setting, _REPEATS, point).samples)
    observed = runner.measure(setting, _REPEATS, point, observe=True).samples
    runs = [[Node(*node) for node in sample.nodes] for sample in observed]
    nodes = sorted(runs, key=lambda run: sum(node.seconds for node in run))[len(runs) // 2]
    steps = point.n_tokens if point.kind == "decode" else 1
    return Phase(
        name=point.name,
        kind=point.kind,
        tokens=point.n_tokens,
        seconds=plain,
        slowdown=_median(observed) / plain,
        nodes_a_step=len(nodes) / steps,
        by_op=_summed(nodes, lambda node: node.op),
        by_part=_summed(nodes, lambda node: f"{node.part} [{node.op}]"),
        by_layer=_summed(nodes, lambda node: -1 if node.layer is None else node.layer),
        stacks=[
            Stack(layer=layer, part=part, op=op, seconds=value)
            for (layer, part, op), value in _stacks(nodes).items()
        ],
    )


def _median(samples: list[Sample]) -> float:
    return statistics.median(sample.seconds for sample in samples)


def _summed(nodes: list[Node], key: Callable[[Node], str | int]) -> list[Share]:
    """Seconds and number of nodes by key, largest first."""
    sums: dict[str | int, list[float]] = {}
    for node in nodes:
        sums.setdefault(key(node), []).append(node.seconds)
    total = sum(node.seconds for node in nodes)
    made = [
        Share(key=name, seconds=sum(all_), share=sum(all_) / total, nodes=len(all_))
        for name, all_ in sums.items()
    ]
    return sorted(made, key=lambda item: -item.seconds)


def _stacks(nodes: list[Node]) -> dict[tuple[int | None, str, str], float]:
    sums: dict[tuple[int | None, str, str], float] = {}
    for node in nodes:
        place = (node.layer, node.part, node.op)
        sums[place] = sums.get(place, 0.0) + node.seconds
    return sums
