"""What plm-edge-bench says of a point, and the point's whole when it has ended.

Times are seconds, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from plm_edge.bench.workload import Point
from plm_edge.engine.sparsity import LayerRows, zero_share

Event = dict[str, Any]  # as it came: a line of JSON


@dataclass
class Sample:
    """One repeat. `seconds` is what t/s is made of; `start` and `end` are times of a clock.

    Attributes:
        tokens: of all sequences together.
        interval: half the 95 % confidence interval of the mean rate up to this sample, as a share
            of it; None for one sample.
        steps: of a decode, the seconds of each step.
        ttft_s: of a prefill, the seconds to the first new token.
        nodes: where they were asked for, operation, name and seconds of each node of the graph.
    """

    seconds: float
    tokens: int
    start: float
    end: float
    interval: float | None = None
    steps: list[float] = field(default_factory=list)
    ttft_s: float | None = None
    nodes: list[tuple[str, str, float]] = field(default_factory=list)


@dataclass
class Loaded:
    """The model is in memory.

    Attributes:
        threads: that compute it.
        description: the engine's line about the model.
        memory: what the engine reported of its buffers (`client.buffers`).
    """

    threads: int
    description: str
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass
class Done:
    """The point has been measured.

    Attributes:
        reached: whether the mean is known as well as was wanted.
        rows: rows of W_down that were read, by layer; empty where nothing counts them.
        head_read: of an output matrix with a coarse form, the share of rows that were read.
        peak_rss_bytes: of the process; None where it means nothing.
    """

    reached: bool
    rows: list[LayerRows] = field(default_factory=list)
    head_read: float | None = None
    peak_rss_bytes: int | None = None

    @property
    def zeros(self) -> float | None:
        """Share of rows that were zero; None without counts."""
        return zero_share(self.rows)


@dataclass
class Measured:
    """One point's raw result: its samples, and what the process said of itself.

    Attributes:
        skipped: why it was not measured; None where it was.
        instructions: of each sample, where an emulator counted them; its times mean nothing then
            (`timed` is False).
    """

    point: Point
    samples: list[Sample] = field(default_factory=list)
    loaded: Loaded | None = None
    done: Done | None = None
    skipped: str | None = None
    timed: bool = True
    instructions: list[int] = field(default_factory=list)

    def add(self, event: Event) -> Sample | None:
        """Put an event where it belongs; the sample where it is one.

        Raises:
            KeyError: it is of another kind.
        """
        values = dict(event)
        kind = values.pop("event")
        values.pop("now", None)
        if kind == "sample":
            self.samples.append(Sample(**values))
            return self.samples[-1]
        if kind == "loaded":
            self.loaded = Loaded(**values)
        elif kind == "done":
            rows = [LayerRows(**layer) for layer in values.pop("rows", [])]
            self.done = Done(rows=rows, **values)
        elif kind == "skipped":
            self.skipped = values["why"]
        elif kind != "warm":
            raise KeyError(kind)
        return None
