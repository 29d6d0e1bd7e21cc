"""Where a token goes: seconds by kind of operation and by layer, from ggml's scheduler callback.

The callback makes the scheduler compute each node alone and wait for it, so nodes that would have
followed one another at once are apart by a Python call: `slowdown` tells by how much the whole
became slower, and shares are what to read. Runs in a process of its own (`python -m …profile`).
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.runner import Setting, worker_environment
from plm_edge.bench.samples import Sampler
from plm_edge.bench.workload import Point
from plm_edge.engine import library
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session

SCHEMA = "plm-edge/profile/1"
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


class Observer:
    """Receives ggml's callbacks: asked before a node, told after it."""

    def __init__(self, ggml: ctypes.CDLL) -> None:
        self._op, self._name = ggml.ggml_op_desc, ggml.ggml_get_name
        for function in (self._op, self._name):
            function.restype = ctypes.c_char_p
            function.argtypes = [ctypes.c_void_p]
        self.nodes: list[Node] = []
        self._began = 0.0

    def __call__(self, node: int, ask: bool) -> bool:
        now = time.perf_counter()
        if not ask:
            op, name = self._op(node).decode(), self._name(node).decode(errors="replace")
            self.nodes.append(Node(op, name, now - self._began))
        # Later than `now`: what is done here is no part of the next node.
        self._began = time.perf_counter()
        return True


def measure(setting: Setting, n_prefill: int = 512, depth: int = 512) -> dict[str, Any]:
    """Profile prefill of `n_prefill` tokens, and decode after `depth`; the result of --json.

    Raises:
        PlmEdgeError: the model cannot be run so.
    """
    request = {
        **asdict(setting),
        "model": str(setting.model.resolve()),
        "points": [asdict(Point("prefill", n_prefill)), asdict(Point("decode", 16, depth))],
    }
    done = subprocess.run(
        [sys.executable, "-m", "plm_edge.bench.profile"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=worker_environment(),
    )
    if done.returncode and not done.stdout:
        lines = done.stderr.strip().splitlines()
        raise PlmEdgeError(
            "the engine ended while it was profiled",
            lines[-1] if lines else f"exit code {done.returncode}",
            "run it again with --debug, and report what it prints",
            ExitCode.INTERNAL,
        )
    said: dict[str, Any] = json.loads(done.stdout)
    if "error" in said:
        what, why, fix, code = said["error"]
        if code == ExitCode.RESOURCES:  # the session's remedies are options of run
            fix = "lower --prefill, --depth or --kv, close other programs, or take a smaller model"
        raise PlmEdgeError(what, why, fix, ExitCode(code))
    return {"schema": SCHEMA, **said}


def phase(
    setting: dict[str, Any], point: Point, engine: library.Engine, repeats: int = 3
) -> dict[str, Any]:
    """One phase's nodes, the repeat with the median total; and the time without a callback."""
    plain = _run(setting, point, engine, None, repeats)[0]
    observer = Observer(engine.ggml)
    seconds, runs = _run(setting, point, engine, observer, repeats)
    nodes = sorted(runs, key=lambda run: sum(node.seconds for node in run))[len(runs) // 2]
    steps = point.n_tokens if point.kind == "decode" else 1
    tokens = point.n_tokens
    return {
        "name": point.name,
        "kind": point.kind,
        "tokens": tokens,
        "seconds": plain,
        "slowdown": seconds / plain,
        "nodes_a_step": len(nodes) / steps,
        "by_op": _summed(nodes, lambda node: node.op),
        "by_part": _summed(nodes, lambda node: f"{node.part} [{node.op}]"),
        "by_layer": _summed(nodes, lambda node: -1 if node.layer is None else node.layer),
        "stacks": [
            {"layer": layer, "part": part, "op": op, "seconds": value}
            for (layer, part, op), value in _stacks(nodes).items()
        ],
    }


def _run(
    setting: dict[str, Any],
    point: Point,
    engine: library.Engine,
    observer: Observer | None,
    repeats: int,
) -> tuple[float, list[list[Node]]]:
    """Median seconds of a sample, and each sample's nodes."""
    names = ("threads", "kv", "n_ubatch", "flash_attn", "gpu_layers", "check_memory")
    options = Options(
        n_ctx=point.n_ctx, observe=observer, **{name: setting[name] for name in names}
    )
    with Session.open(Path(setting["model"]), options, engine) as session:
        sampler = Sampler(session, point)
        sampler.warm_up()
        seconds, runs = [], []
        for _ in range(repeats):
            if observer:
                observer.nodes = []
            seconds.append(sampler.sample().seconds)
            if observer:
                runs.append(observer.nodes)
    return sorted(seconds)[len(seconds) // 2], runs


def _summed(nodes: list[Node], key: Callable[[Node], Any]) -> list[dict[str, Any]]:
    """Seconds and number of nodes by key, largest first."""
    sums: dict[Any, list[float]] = {}
    for node in nodes:
        sums.setdefault(key(node), []).append(node.seconds)
    total = sum(node.seconds for node in nodes)
    made = [
        {"key": name, "seconds": sum(all_), "share": sum(all_) / total, "nodes": len(all_)}
        for name, all_ in sums.items()
    ]
    return sorted(made, key=lambda item: -float(item["seconds"]))


def _stacks(nodes: list[Node]) -> dict[tuple[int | None, str, str], float]:
    sums: dict[tuple[int | None, str, str], float] = {}
    for node in nodes:
        place = (node.layer, node.part, node.op)
        sums[place] = sums.get(place, 0.0) + node.seconds
    return sums


def main() -> None:
    request = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        engine = library.load()
        points = [Point(**point) for point in request["points"]]
        said: dict[str, Any] = {
            "model": request["model"],
            "engine": {"pin": engine.info.pin, "tree": engine.info.tree},
            "phases": [phase(request, point, engine) for point in points],
        }
    except PlmEdgeError as error:
        said = {"error": [error.what, error.why, error.fix, int(error.code)]}
    json.dump(said, out)
    out.flush()


if __name__ == "__main__":
    main()
