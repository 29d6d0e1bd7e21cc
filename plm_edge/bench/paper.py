"""The PLM paper's edge evaluation (arXiv 2503.12167): Q4 and Q8, prefill and decode, offload.

What is known of it here: its figures (github.com/plm-team/PLM) show, for each device, the speed of
prefill and of decode, both by the length of the sequence, and both by the number of layers on the
GPU (`-ngl`); its models are llama.cpp's Q4_K_M and Q8_0. The lengths were not to be found in text:
those below are llama-bench's (512 and 128) and ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from plm_edge import __version__
from plm_edge.bench.result import gather
from plm_edge.bench.result.shape import Point, Result
from plm_edge.bench.result.suites import Paper, PaperRow
from plm_edge.bench.workload import Workload

SCHEMA: Literal["plm-edge/bench-paper/1"] = "plm-edge/bench-paper/1"
QUANTS = (("Q4", "q4_k_m"), ("Q8", "q8_0"))
LENGTHS = (128, 512, 1024, 2048)
SOURCE = "arXiv 2503.12167, github.com/plm-team/PLM (its figures)"
UNKNOWN = (
    "lengths of prompt and answer (here llama-bench's 512 and 128, and 128 to 2048)",
    "which numbers of layers were offloaded (here every quarter)",
    "threads, versions and power modes of its devices",
)
Measure = Callable[[str, Workload, int | None], list[Result]]


def workload(budget_s: float | None, min_repeats: int = 5) -> Workload:
    """Prompts of LENGTHS, and decode of 128 tokens after as many."""
    return Workload(
        "paper", prefill=LENGTHS, depths=(0, *LENGTHS), sequences=(1,), decode_tokens=128,
        loads=False, budget_s=10.0 if budget_s is None else budget_s,
        min_repeats=min_repeats if budget_s is None else 2,
    )  # fmt: skip


def offloads(layers: int) -> tuple[int, ...]:
    """Numbers of layers for the GPU: none, each quarter, all with the output."""
    quarters = {round(layers * share / 4) for share in range(5)}
    return (*sorted(quarters), layers + 1)


def measure(
    run: Measure, chosen: Workload, layers: int, has_gpu: Callable[[Sequence[Result]], bool]
) -> Paper:
    """The whole suite.

    Args:
        run: measures a type by a workload with so many layers on the GPU (None: the engine's
            choice) on every device; the results in the devices' order.
        layers: of the model.
        has_gpu: whether weights of a result lie on a GPU.
    """
    began = gather.now()
    found: list[PaperRow] = []
    for label, quant in QUANTS:
        whole = run(quant, chosen, None)
        found += [_row(label, one, None) for one in whole]
        if has_gpu(whole):
            short = replace(chosen, prefill=(512,), depths=(0,))
            for n in offloads(layers):
                found += [_row(label, one, n) for one in run(quant, short, n)]
    return Paper(
        schema=SCHEMA,
        plm_edge=__version__,
        created=began,
        source=SOURCE,
        unknown=list(UNKNOWN),
        gpu=any(row.gpu_layers is not None for row in found),
        rows=found,
    )


def _row(label: str, one: Result, gpu_layers: int | None) -> PaperRow:

    def rates(kind: str, by: Callable[[Point], int]) -> dict[str, float]:
        return {
            str(by(point)): point.tps.median
            for point in one.points
            if point.kind == kind and point.tps
        }

    return PaperRow(
        device=one.machine.device,
        cpu=one.machine.cpu,
        type=label,
        gpu_layers=gpu_layers,
        prefill_tps=rates("prefill", lambda point: point.n_tokens),
        decode_tps=rates("decode", lambda point: point.depth),
        result=one,
    )


def on_gpu(results: Sequence[Result]) -> bool:
    """Whether weights of any result lie elsewhere than in the CPU's memory."""
    return any(point.offloaded for one in results for point in one.points)
