"""What is kept of the ARM cores' cycles, and what the estimate takes of it."""

from __future__ import annotations

import pytest

from benchmarks import arm_cycles, arm_report, report
from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench.cycles import kernels, sources, table
from plm_edge.devices.profiles.profile import find


def test_the_estimate_has_the_recorded_cycles() -> None:
    data = report.recorded("arm")
    assert table.known() == arm_cycles.cycles_of(data)


@pytest.mark.parametrize("core", [one for cores in arm_cycles.DEVICES.values() for one in cores])
def test_every_core_has_every_kernel(core: str) -> None:
    (found,) = [one for one in report.recorded("arm")["cores"] if one["core"] == core]
    assert [row["kernel"] for row in found["kernels"]] == [one.name for one in kernels.KERNELS]


@pytest.mark.slow  # every kernel through zig's preprocessor
@pytest.mark.parametrize("device", arm_cycles.DEVICES)
def test_the_cycles_are_of_the_kernels_as_they_are(device: str) -> None:
    """Where this fails: python -m benchmarks.arm_cycles --write, some minutes."""
    try:
        now = sources.hash_of(find(device))
    except PlmEdgeError as error:
        if "zig" in error.what:
            pytest.skip("needs zig: ziglang from PyPI")
        raise
    of = {one["core"]: one["sources"] for one in report.recorded("arm")["cores"]}
    assert {of[core] for core in arm_cycles.DEVICES[device]} == {now}


def test_a_kernel_that_executes_as_much_is_known() -> None:
    data = report.recorded("arm")
    known = arm_cycles.recorded(data)
    row = next(row for row in data["cores"][0]["kernels"] if row["kernel"] == "rows q4_K")
    core, ours, theirs = data["cores"][0]["core"], row["ours"], row["upstream"]
    assert known[core, "rows q4_K", ours["instructions"], ours["bytes"]] == ours
    assert known[core, "q4_K", theirs["instructions"], theirs["bytes"]] == theirs
    assert (core, "rows q4_K", ours["instructions"] + 1, ours["bytes"]) not in known


def test_other_files_lines_are_not_in_the_hash() -> None:
    text = '# 1 "ggml/src/ggml-cpu/plm/a.cpp"\nint a;\n\n# 1 "/usr/include/b.h" 1\nint b;\n'
    assert list(sources.ours(text)) == ["int a;"]


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
