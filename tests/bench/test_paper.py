"""The paper's settings: what is run, and how it is laid out."""

from __future__ import annotations

import copy
from typing import Any

from plm_edge.bench import paper
from plm_edge.bench.render import charts, suites
from plm_edge.bench.result.shape import Result, of_json
from plm_edge.bench.workload import Workload


def runs(result: dict[str, Any], place: str) -> tuple[Any, list[tuple[str, str, int | None]]]:
    """A function that measures nothing, and what it was asked for."""
    asked: list[tuple[str, str, int | None]] = []

    def run(quant: str, workload: Workload, gpu_layers: int | None) -> list[Result]:
        asked.append((quant, workload.name, gpu_layers))
        made = copy.deepcopy(result)
        for point in made["points"]:
            if "memory" in point:
                point["memory"]["weights_bytes"] = {place: 1}
        return [of_json(made)]

    return run, asked


def test_without_a_gpu_nothing_is_offloaded(result: dict[str, Any]) -> None:
    run, asked = runs(result, "CPU_REPACK")
    found = paper.measure(run, paper.workload(None), 32, paper.on_gpu)
    assert [(quant, layers) for quant, _, layers in asked] == [("q4_k_m", None), ("q8_0", None)]
    assert [row.type for row in found.rows] == ["Q4", "Q8"]
    assert found.gpu is False
    assert any("no GPU" in note for note in suites.paper_notes(found))
    assert all("not found there" in note for note in suites.paper_notes(found)[1:-1])


def test_with_a_gpu_layers_go_there_by_quarters(result: dict[str, Any]) -> None:
    run, asked = runs(result, "CUDA0")
    found = paper.measure(run, paper.workload(None), 32, paper.on_gpu)
    offloaded = [layers for quant, _, layers in asked if quant == "q4_k_m"]
    assert offloaded == [None, 0, 8, 16, 24, 32, 33]
    assert found.gpu is True
    parts = [row for row in found.rows if row.gpu_layers is not None]
    assert charts.offload(parts, "decode").startswith("<svg")


def test_rates_stand_by_length(result: dict[str, Any]) -> None:
    run, _ = runs(result, "CPU")
    row = paper.measure(run, paper.workload(None), 6, paper.on_gpu).rows[0]
    by_name = {point["name"]: point for point in result["points"]}
    assert row.prefill_tps["32"] == by_name["pp32"]["tps"]["median"]
    assert row.decode_tps["64"] == by_name["tg4 @ d64"]["tps"]["median"]


def test_the_suite_is_q4_and_q8_with_prompts_and_answers() -> None:
    names = [point.name for point in paper.workload(None).points()]
    assert {"pp512", "tg128", "tg128 @ d2048"} <= set(names)
    assert [quant for _, quant in paper.QUANTS] == ["q4_k_m", "q8_0"]
