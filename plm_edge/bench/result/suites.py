"""The shapes of what `bench matrix`, `bench paper` and `profile` find, as --json writes them.

They hold whole points and results (`shape.py`), whose units are theirs too.
"""

from __future__ import annotations

from typing import Literal

from plm_edge.bench.result.shape import Engine, Machine, Model, Part, Point, Result
from plm_edge.bench.workload import Kind, Workload

Timed = Literal["prefill", "decode"]


class Source(Part, frozen=True, kw_only=True):
    """The model that all types are made from."""

    path: str
    name: str


class Reference(Part, frozen=True, kw_only=True):
    """The model that divergence is measured against.

    Attributes:
        quantised: whether it is itself not in full precision.
        text: what is predicted: "given", or the name of the built-in text.
        positions: predictions that are compared.
    """

    type: str
    quantised: bool
    sha256: str
    text: str
    positions: int


class Cell(Part, frozen=True, kw_only=True):
    """One type of weights with one cache and one number of threads.

    Attributes:
        decode_tps, prefill_tps: medians.
        kl_nats: the mean of `kl_windows`, in nats a token.
        pareto: whether no other cell is at least as good in all and better in one.
    """

    quant: str
    kv: str
    threads: int
    decode: Point
    prefill: Point
    decode_tps: float
    prefill_tps: float
    peak_rss_bytes: int
    kl_nats: float
    kl_windows: list[float]
    pareto: bool


class Matrix(Part, frozen=True, kw_only=True):
    """What `bench matrix` finds; `models` by type of weights."""

    schema: Literal["plm-edge/bench-matrix/1"]
    plm_edge: str
    created: str
    engine: Engine
    machine: Machine
    source: Source
    reference: Reference
    workload: Workload
    models: dict[str, Model]
    synthetic: bool
    cells: list[Cell]


class PaperRow(Part, frozen=True, kw_only=True):
    """A device and a type as the paper lays them out.

    Attributes:
        type: as the paper names it.
        gpu_layers: None: the engine's choice.
        prefill_tps: median by the prompt's length in tokens.
        decode_tps: median by the number of cached tokens.
    """

    device: str
    cpu: str
    type: str
    gpu_layers: int | None
    prefill_tps: dict[str, float]
    decode_tps: dict[str, float]
    result: Result

    def rates(self, kind: Timed) -> dict[str, float]:
        """Medians by a number of tokens: of the prompt, or in the cache."""
        return self.prefill_tps if kind == "prefill" else self.decode_tps


class Paper(Part, frozen=True, kw_only=True):
    """What `bench paper` finds.

    Attributes:
        source: where the paper's settings are from.
        unknown: what of them was not to be found there.
        gpu: whether numbers of layers on a GPU were measured.
    """

    schema: Literal["plm-edge/bench-paper/1"]
    plm_edge: str
    created: str
    source: str
    unknown: list[str]
    gpu: bool
    rows: list[PaperRow]


class Share(Part, frozen=True, kw_only=True):
    """What the nodes of one operation, part or layer took.

    Attributes:
        key: the operation's or part's name, or the layer's number: -1 outside of layers.
        share: of all nodes' seconds.
        nodes: how many there were.
    """

    key: str | int
    seconds: float
    share: float
    nodes: int


class Stack(Part, frozen=True, kw_only=True):
    """What an operation took in a part of a layer; None: outside of layers."""

    layer: int | None
    part: str
    op: str
    seconds: float


class Phase(Part, frozen=True, kw_only=True):
    """Prefill or decode, by nodes of the graph.

    Attributes:
        seconds: without a callback.
        slowdown: how many times longer it took while nodes were observed.
        by_op, by_part, by_layer: the largest first.
    """

    name: str
    kind: Kind
    tokens: int
    seconds: float
    slowdown: float
    nodes_a_step: float
    by_op: list[Share]
    by_part: list[Share]
    by_layer: list[Share]
    stacks: list[Stack]


class EngineSource(Part, frozen=True, kw_only=True):
    """Which engine was profiled: the pin, and the hash of its tree."""

    pin: str
    tree: str


class Profile(Part, frozen=True, kw_only=True):
    """What `profile` finds; `model` is a path."""

    schema: Literal["plm-edge/profile/1"]
    model: str
    engine: EngineSource
    phases: list[Phase]
