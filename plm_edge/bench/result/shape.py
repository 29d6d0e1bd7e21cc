"""The shape of a result, plm-edge/bench/1: what `--json` writes and `bench compare` reads.

Times are in seconds, rates in tokens a second, sizes in bytes, powers in watts, energies in joules.
A field whose default is None is left out of the JSON where there is nothing to say; a field that
may be null and is always written has no default, and one that is null or left out has UNSET.
`schema.py` makes result.schema.json from these classes.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from plm_edge.bench.statistics import Summary
from plm_edge.bench.workload import Kind, Workload

SCHEMA: Literal["plm-edge/bench/1"] = "plm-edge/bench/1"

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]


def is_gpu(buffer: str) -> bool:
    """Whether a kind of buffer, by the engine's name for it, is a GPU's own memory."""
    return not buffer.startswith(("CPU", "AMX", "RPC")) and not buffer.endswith("_Host")


class Part(Struct, frozen=True, omit_defaults=True):
    """The base of all parts of a result: frozen, and without what is not there."""


class Engine(Part, frozen=True, kw_only=True):
    """Which engine ran: pin, tree and build."""

    name: str
    pin: str
    tree: str
    compiler: str | None
    cpu_flags: list[str] | None
    folder: str


class Machine(Part, frozen=True, kw_only=True):
    """Where it ran. Frequencies in MHz, sizes in bytes; null where the machine does not say."""

    device: str
    cpu: str
    arch: str
    features: list[str] | UnsetType = UNSET
    cores_physical: int | UnsetType | None = UNSET
    cores_logical: int | None
    ram_bytes: Count | None
    governor: str | None
    max_mhz: float | UnsetType | None = UNSET
    kernel: str | UnsetType = UNSET
    system: str | UnsetType = UNSET
    virtual: bool | UnsetType | None = UNSET
    load_before: list[float] | UnsetType | None = UNSET


class Model(Part, frozen=True, kw_only=True):
    """What was run, identified by its content."""

    path: str
    name: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    file_bytes: Count
    architecture: str
    quant: str
    layout: Literal["stock", "edge"]
    params: Count
    tensor_bytes: Count
    bits_per_weight: float | UnsetType | None = UNSET
    context_length: int | UnsetType | None = UNSET
    synthetic: bool


class Settings(Part, frozen=True, kw_only=True):
    """How it was run."""

    threads: int | None
    kv: str
    flash_attn: str
    n_ubatch: Count
    exact: bool = False
    gpu_layers: int | UnsetType | None = UNSET
    tokens: Literal["random", "text"]
    workload: Workload


class Latencies(Part, frozen=True, kw_only=True):
    """Percentiles of single steps, over all repeats."""

    p50: float
    p95: float
    p99: float
    n: Count


class Memory(Part, frozen=True, kw_only=True):
    """What a point took."""

    peak_rss_bytes: Annotated[Count | None, Meta(description="null: emulated")]
    weights_bytes: Annotated[
        dict[str, Count], Meta(description="by kind of buffer, as the engine reports")
    ]
    kv_bytes: Count
    kv_cells: Count | UnsetType = UNSET
    kv_bytes_per_token: float
    kv_type: str | UnsetType = UNSET
    compute_bytes: Count
    kv_by_buffer: dict[str, Count] | None = None
    compute_by_buffer: dict[str, Count] | None = None
    copies_by_buffer: Annotated[
        dict[str, Count] | None,
        Meta(description="transposed weights beside the file's, for devices that lack our product"),
    ] = None
    splits: Annotated[
        tuple[int, int] | None,
        Meta(description="parts of the graph, each on one device: of a micro-batch, of a token"),
    ] = None


class LayerRows(Part, frozen=True, kw_only=True):
    """Rows of W_down and of W_up in planes in a layer, and how many of them were read.

    `low_read` of `low_rows` are those of W_up whose lower bits were; both 0 without planes.
    """

    layer: Count
    rows: Count
    read: Count
    low_rows: Count = 0
    low_read: Count = 0


class Energy(Part, frozen=True, kw_only=True):
    """What a point took of energy, idle apart."""

    joules: float
    watts: float
    joules_a_token: float
    joules_a_token_above_idle: float | None


class PointPower(Part, frozen=True, kw_only=True):
    """What the meters said while a point was measured."""

    meters: dict[str, dict[str, Any]]
    energy: Energy | None
    throttled: bool | None


class Bounds(Part, frozen=True, kw_only=True):
    """What a point reached of the machine's bandwidth and arithmetic."""

    bytes_a_step: float
    flops_a_step: float
    bytes_s: float
    flops_s: float
    bandwidth_share: float
    compute_share: float
    bound_by: Literal["memory", "compute", "overhead"]


class Instructions(Part, frozen=True, kw_only=True):
    """Of an emulated device, which is not timed."""

    samples: list[Count]
    a_token: Annotated[float | None, Meta(description="median; of a load: all")]


class Point(Part, frozen=True, kw_only=True):
    """One thing that was measured, in a process of its own."""

    name: Annotated[
        str, Meta(description="as llama-bench names it: pp512, tg32 @ d2048, x4 for four sequences")
    ]
    kind: Kind
    n_tokens: Count
    depth: Count
    n_seq: Count
    skipped: Annotated[str | None, Meta(description="why it was not measured")]
    samples_s: (
        Annotated[list[Seconds], Meta(min_length=1, description="raw: seconds of each repeat")]
        | None
    ) = None
    seconds: Summary | None = None
    interval_reached: bool | UnsetType | None = UNSET
    window: Annotated[
        tuple[float, float] | None,
        Meta(description="monotonic seconds of the first and last sample"),
    ] = None
    tokens_a_sample: Count | None = None
    tps: Summary | None = None
    ttft_samples_s: list[Seconds] | None = None
    ttft_s: Summary | None = None
    step_samples_s: Annotated[
        list[list[Seconds]] | None, Meta(description="raw: seconds of each step, by repeat")
    ] = None
    inter_token_s: Latencies | None = None
    memory: Memory | None = None
    threads: int | UnsetType | None = UNSET
    zeros: Annotated[
        float | UnsetType | None,
        Meta(description="share of W_down rows that were skipped; null: nothing counts them"),
    ] = UNSET
    rows_by_layer: list[LayerRows] | None = None
    head_read: Annotated[
        float | None,
        Meta(description="share of the output matrix's rows; null: it has no coarse form"),
    ] = None
    power: PointPower | None = None
    bounds: Bounds | None = None
    instructions: Instructions | None = None

    @property
    def skipped_rows(self) -> float | None:
        """`zeros`; None where nothing counted them."""
        return None if self.zeros is UNSET else self.zeros

    @property
    def offloaded(self) -> bool:
        """Whether weights lie elsewhere than in the CPU's memory."""
        places = self.memory.weights_bytes if self.memory else {}
        return any(map(is_gpu, places))

    @property
    def known(self) -> Summary | None:
        """Rates where there are any, else times; None where nothing was timed."""
        return self.tps or self.seconds


class MeterSource(Part, frozen=True, kw_only=True):
    """A meter that was read."""

    name: str
    quantity: str
    unit: str
    source: str
    covers: str


class LackingMeter(Part, frozen=True, kw_only=True):
    """A meter that cannot be used here."""

    what: str
    why: str


class Overhead(Part, frozen=True, kw_only=True):
    """What reading the meters took."""

    interval_s: float
    rounds: int
    seconds_a_round: float
    thread_cpu_share: float
    reading_share: float


class Power(Part, frozen=True, kw_only=True):
    """What measures energy, temperature and throttling here."""

    meters: list[MeterSource]
    lacking: list[LackingMeter]
    counted: Annotated[list[str], Meta(description="meters whose sum is the device's power")]
    idle_watts: Annotated[
        float | None, Meta(description="before anything ran; null: not measured here")
    ]
    overhead: Overhead


class Capability(Part, frozen=True, kw_only=True):
    """What the machine can do at most, measured."""

    threads: int
    read_bytes_s: float
    read_samples: list[float]
    read_how: str
    flops: float
    flops_samples: list[float]
    flops_how: str


class Sustained(Part, frozen=True, kw_only=True):
    """How the rate held in a long decode."""

    rates: Annotated[
        list[tuple[float, float]], Meta(description="[seconds from the beginning, t/s]")
    ]
    held: Annotated[float, Meta(description="rate of the last tenth as a share of the first's")]
    series: dict[str, list[tuple[float, float]]]


class ComparedPoint(Part, frozen=True, kw_only=True):
    """A point that two results have.

    Attributes:
        ours, other: medians; t/s, of loads seconds.
        ratio: how many times as fast as the other.
        beyond_noise: whether the 95 % interval of the means' difference excludes zero; None where
            a spread is unknown.
    """

    name: str
    kind: Kind
    ours: float
    other: float
    ratio: float
    beyond_noise: bool | None


class Comparison(Part, frozen=True, kw_only=True):
    """Another result, and ours against it."""

    other: Result = msgspec.field(name="with")
    differences: list[str]
    points: list[ComparedPoint]


class Gpu(Part, frozen=True, kw_only=True):
    """A GPU, before the model was loaded."""

    name: Annotated[str, Meta(description="as the backend counts it, such as CUDA0")]
    description: str
    total_bytes: Count
    free_bytes: Count


class Offload(Part, frozen=True, kw_only=True):
    """What went to GPUs."""

    gpus: list[Gpu]
    layers: Annotated[
        int, Meta(description="as the engine counts: the output is the first, the last layer next")
    ]
    n_layers: int
    why: str
    zeros: Annotated[
        float | None,
        Meta(description="share of W_down rows that are zero, counted on the CPU; null: nothing"),
    ]


class Tokens(Part, frozen=True, kw_only=True):
    """Greedy tokens here and on the emulated device."""

    prompt: str
    here: list[int]
    there: list[int]
    equal: bool
    margin_nats: float


class Emulation(Part, frozen=True, kw_only=True):
    """What emulated the device, and whether it computes what this machine does."""

    emulator: str
    cpu: str
    not_counted: Annotated[str | None, Meta(description="why instructions are not counted")]
    tokens: Tokens


class Result(Part, frozen=True, kw_only=True):
    """A result of plm-edge bench.

    A version's fields keep their meaning; new ones may be added.
    """

    schema: Literal["plm-edge/bench/1"]
    plm_edge: str
    created: str
    engine: Engine
    machine: Machine
    model: Model
    settings: Settings
    points: list[Point]
    power: Power
    capability: Capability | None = None
    cost: Annotated[
        dict[str, int] | None,
        Meta(description="bytes and parameters a token uses (plm_edge/bench/analyse/cost.py)"),
    ] = None
    offload: Offload | None = None
    sustained: Sustained | None = None
    comparison: Comparison | None = None
    emulation: Emulation | None = None


def as_json(part: Part) -> dict[str, Any]:
    """A result or a part of one, as JSON's objects, lists and values."""
    made: dict[str, Any] = msgspec.to_builtins(part)
    return made


def of_json(data: Any) -> Result:
    """The result in JSON's objects, lists and values; fields that this version lacks are dropped.

    Raises:
        msgspec.ValidationError: something that every result has is missing, or is of another type.
    """
    return msgspec.convert(data, Result)


def of_text(text: str) -> Result:
    """As `of_json`, of text that holds JSON.

    Raises:
        ValueError: it is no JSON, or no result.
    """
    return of_json(json.loads(text))
