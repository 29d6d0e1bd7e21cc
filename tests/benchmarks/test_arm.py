"""What is kept of the ARM cores' cycles, and what the estimate takes of it."""

from __future__ import annotations

import pytest

from benchmarks import arm_cycles, arm_report, report
from plm_edge.bench.cycles import kernels, table


def test_the_estimate_has_the_recorded_cycles() -> None:
    data = report.recorded("arm")
    assert table.known() == arm_cycles.cycles_of(data)
    names = [kernel.name for kernel in kernels.KERNELS]
    of_cores = {one["core"]: [row["kernel"] for row in one["kernels"]] for one in data["cores"]}
    assert of_cores["Cortex-A76"] == names
    for found in of_cores.values():  # a core that was not measured since has fewer
        assert found == [name for name in names if name in found]


def test_a_multiplications_cycles_follow_from_a_bytes() -> None:
    row = {"kernel": "q4_K", "ours": {"cycles_a_byte": 2.0, "bytes": 100, "products": 400}}
    data = {"cores": [{"core": "X", "kernels": [row]}]}
    assert arm_cycles.cycles_of(data) == {"X": {"q4_K": 0.5}}


@pytest.mark.parametrize(("limit", "beyond"), [(1.9, ["q4_K"]), (2.0, [])])
def test_over_budget_is_said(limit: float, beyond: list[str]) -> None:
    figures = {"cycles_a_byte": 2.0}
    row = {"kernel": "q4_K", "kind": "product", "type": "q4_K", "ours": figures}
    one = {
        "core": "X", "title": "T", "compiler": "c", "target": ["t", "x"],
        "model": {"of": "Y", "width": 4}, "kernels": [row],
        "source": {"commit": 40 * "a", "changed": False},
        "budget": {"cycles": limit, "how": "so"},
    }  # fmt: skip
    assert arm_report.over(one) == beyond
    text = arm_report.section({"llvm": 22, "cores": [one]})
    assert "estimates: no ARM core was at hand" in text
    assert ("over budget" in text) == bool(beyond)
    assert ("OVER" in arm_report.line("X", row, limit)) == bool(beyond)
    assert arm_report.over({**one, "budget": None}) == []
