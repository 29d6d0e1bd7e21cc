"""Types of weights x threads x types of the cache: speed, memory and quality, and what is best.

A cell is on the Pareto front when no other is at least as good in all three (decode, peak memory,
KL divergence) and better in one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from msgspec import structs

from plm_edge import __version__
from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import variants
from plm_edge.bench.result import gather
from plm_edge.bench.result.shape import Model
from plm_edge.bench.result.suites import Cell, Matrix, Reference, Source
from plm_edge.bench.site import Head, Here, Site
from plm_edge.bench.variants import Origin
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.workload import Point, Workload
from plm_edge.engine.options import KV_NUMBERS
from plm_edge.machine.threads import default_threads
from plm_edge.quality.divergence import TEXT, Divergence, windows_of

SCHEMA: Literal["plm-edge/bench-matrix/1"] = "plm-edge/bench-matrix/1"
Step = Callable[[str], None]
At = Callable[[Setting], AbstractContextManager[Site]]
DECODE, PREFILL = Point("decode", 32, 128), Point("prefill", 128)


@dataclass(frozen=True)
class Sweep:
    """What is combined."""

    quants: tuple[str, ...] = ("q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "q8_0")
    threads: tuple[int, ...] = ()
    kvs: tuple[str, ...] = ("f16", "q8_0", "q4_0")

    def cells(self) -> Iterator[tuple[str, str, int]]:
        return itertools.product(self.quants, self.kvs, self.threads)

    def __len__(self) -> int:
        return len(self.quants) * len(self.threads) * len(self.kvs)


def sweep(words: Sequence[str], most: int) -> Sweep:
    """From NAME=VALUE,VALUE …: quant, threads, kv. What is not said has its default.

    Args:
        most: threads that suit the machine.

    Raises:
        PlmEdgeError: another name, or a value that is not known (code USAGE).
    """
    found = Sweep(threads=tuple(sorted({1, max(1, most // 2), most})))
    for word in words:
        name, _, text = word.partition("=")
        values = tuple(filter(None, text.split(",")))
        if name == "quant" and values:
            found = replace(found, quants=tuple(_quant(value) for value in values))
        elif name == "threads" and values and all(v.isdigit() and int(v) for v in values):
            found = replace(found, threads=tuple(map(int, values)))
        elif name == "kv" and values and all(value in KV_NUMBERS for value in values):
            found = replace(found, kvs=values)
        else:
            raise PlmEdgeError(
                f"--sweep {word} cannot be understood",
                f"names are quant, threads and kv; types of the cache {', '.join(KV_NUMBERS)}",
                "say for example --sweep quant=q4_k,q8_0 --sweep threads=1,4 --sweep kv=f16,q8_0",
                ExitCode.USAGE,
            )
    return found


def _quant(name: str) -> str:
    from plm_edge.converters.plan.recipes import find_recipe

    return find_recipe(name)[0]


@contextmanager
def here(setting: Setting) -> Iterator[Site]:
    """This machine: where cells are measured when nothing else is said."""
    yield Here(setting)


def measure(
    source: Origin,
    wanted: Sweep,
    workload: Workload,
    setting: Setting,
    step: Step,
    at: At = here,
) -> Matrix:
    """Measure every cell, and the divergence of each pair of a type and a cache.

    Args:
        workload: how long each point is repeated.
        setting: what is the same in all cells (its `text` is what divergence is measured on).
        step: called with the name of each step when it begins.
        at: where a model of a type is measured; entered once for each type. Divergence is computed
            on this machine: it is the types', not the machine's.

    Raises:
        PlmEdgeError: a type cannot be made or run.
    """
    reference = variants.provide(source, source.best, step)
    step("the reference's predictions")
    windows = windows_of(reference, setting.text)
    divergence = Divergence(reference, windows, min(max(wanted.threads), default_threads()))
    began = gather.now()
    cells: list[Cell] = []
    models: dict[str, Model] = {}
    head: Head | None = None
    for quant in wanted.quants:
        model = variants.provide(source, quant, step)
        kl = {}
        for kv in wanted.kvs:
            step(f"divergence of {quant}, KV {kv}")
            kl[kv] = [float(one) for one in divergence.of(model, kv)]
        with at(replace(setting, model=model, text=None)) as site:
            said = site.head()
            models[quant] = said.model
            head = head or said
            for kv, threads in itertools.product(wanted.kvs, wanted.threads):
                step(f"{quant}, KV {kv}, {threads} threads")
                site.setting = replace(
                    site.setting, kv=kv, threads=threads, gpu_layers=setting.gpu_layers
                )
                site.offload(max(DECODE.n_ctx, PREFILL.n_ctx), 1)
                cells.append(_cell(site, workload, quant, kl[kv]))
    assert head
    best = front([_values(cell) for cell in cells])
    return Matrix(
        schema=SCHEMA,
        plm_edge=__version__,
        created=began,
        engine=head.engine,
        machine=head.machine,
        source=Source(path=str(source.path), name=source.name),
        reference=Reference(
            type=source.best,
            quantised=source.quantised,
            sha256=files.sha256(reference),
            text="given" if setting.text else TEXT.name,
            positions=sum(map(len, windows)),
        ),
        workload=workload,
        models=models,
        synthetic=any(one.synthetic for one in models.values()),
        cells=[
            structs.replace(cell, pareto=pareto) for cell, pareto in zip(cells, best, strict=True)
        ],
    )


def _cell(site: Site, workload: Workload, quant: str, kl: list[float]) -> Cell:
    """A cell that no other was compared with yet."""

    def silent(n: int, interval: float | None) -> None:
        """The step's name says enough."""

    decode = gather.point(site.measure(workload, DECODE, silent))
    prefill = gather.point(site.measure(workload, PREFILL, silent))
    assert decode.tps
    assert prefill.tps
    assert decode.memory
    peak = decode.memory.peak_rss_bytes
    assert peak is not None
    assert site.setting.threads
    return Cell(
        quant=quant,
        kv=site.setting.kv,
        threads=site.setting.threads,
        decode=decode,
        prefill=prefill,
        decode_tps=decode.tps.median,
        prefill_tps=prefill.tps.median,
        peak_rss_bytes=peak,
        kl_nats=sum(kl) / len(kl),
        kl_windows=kl,
        pareto=False,
    )


def _values(cell: Cell) -> tuple[float, float, float]:
    return -cell.decode_tps, float(cell.peak_rss_bytes), cell.kl_nats


def front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points no other dominates; less is better in every coordinate."""

    def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)

    return [not any(dominates(other, point) for other in points) for point in points]
