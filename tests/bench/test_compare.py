"""Comparison, history and regressions over results made up by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench import history
from plm_edge.bench.analyse import compare
from plm_edge.bench.render.runs import shortened
from plm_edge.bench.result.shape import Result, of_json
from plm_edge.bench.statistics import summarise


def slowed(result: dict[str, Any], factor: float) -> Result:
    """The result with every t/s multiplied, and spreads of one percent."""
    return of_json(slowed_json(result, factor))


def slowed_json(result: dict[str, Any], factor: float) -> dict[str, Any]:
    made = copy.deepcopy(result)
    for point in made["points"]:
        if "tps" in point:
            base = 100.0 * factor
            point["tps"] = summarise([0.995 * base, base, 1.005 * base]).as_dict()
    return made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path))
    return tmp_path


def test_ratios(result: dict[str, Any]) -> None:
    found = {p.name: p for p in compare.compare(slowed(result, 2), slowed(result, 1))}
    assert found["tg4"].ratio == pytest.approx(2)
    assert found["tg4"].beyond_noise is True
    assert found["load warm"].ratio == pytest.approx(1)
    assert found["load warm"].beyond_noise is False


def test_a_faster_load_has_a_ratio_above_one(result: dict[str, Any]) -> None:
    other = copy.deepcopy(result)
    for point in other["points"]:
        if point["name"] == "load warm":
            point["seconds"] = summarise([30.0, 30.1, 30.2]).as_dict()
    found = {p.name: p for p in compare.compare(of_json(result), of_json(other))}
    assert found["load warm"].ratio > 10


def test_a_difference_within_the_spread_is_noise(result: dict[str, Any]) -> None:
    found = {p.name: p for p in compare.compare(slowed(result, 1.005), slowed(result, 1))}
    assert found["pp32"].beyond_noise is False


def test_what_else_differs_is_named(result: dict[str, Any]) -> None:
    other = copy.deepcopy(result)
    assert compare.differences(of_json(result), of_json(other)) == []
    other["settings"]["threads"] = 9
    other["model"]["sha256"] = "f" * 64
    lines = compare.differences(of_json(result), of_json(other))
    assert [line.split(":")[0] for line in lines] == ["model", "threads"]


def test_a_file_that_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema": "plm-edge/run/1"}))
    with pytest.raises(PlmEdgeError, match="no result"):
        compare.read(path)
    with pytest.raises(PlmEdgeError, match="cannot be compared"):
        compare.read(tmp_path / "missing.json")


def test_the_last_run_of_the_same_setting(result: dict[str, Any], place: Path) -> None:
    assert history.last(of_json(result)) is None
    history.add(slowed(result, 1))
    other = slowed_json(result, 5)
    other["settings"]["threads"] = 7
    history.add(of_json(other))
    history.add(slowed(result, 2))
    found = history.last(of_json(result))
    assert found is not None
    assert found.points[2].tps is not None
    assert found.points[2].tps.median == pytest.approx(200)
    assert [run.id for run in history.runs()] == [3, 2, 1]
    assert history.runs()[0].points["tg4"] == pytest.approx(200)


@pytest.mark.parametrize(
    ("factor", "slower"), [(0.5, True), (0.97, False), (1.0, False), (2, False)]
)
def test_regressions(result: dict[str, Any], factor: float, slower: bool) -> None:
    found = history.regressions(slowed(result, factor), slowed(result, 1))
    assert {point.name for point in found} == (
        {"pp32", "tg4", "tg4 @ d64", "tg4 x2"} if slower else set()
    )


def test_what_became_slower_begins_with_the_worst(result: dict[str, Any], place: Path) -> None:
    worst = slowed_json(result, 0.8)
    for point in worst["points"]:
        if point["name"] == "tg4":
            point["tps"] = slowed_json(result, 0.5)["points"][3]["tps"]
    runs = [history.add(one) for one in (slowed(result, 1), of_json(worst))]
    lines = history.slower(runs[1], runs[0])
    assert len(lines) == 4
    assert lines[0].startswith("tg4 slower")
    assert shortened(lines) == f"{lines[0]} (and 3 more points)"
    assert shortened([]) == ""


def test_a_damaged_history_is_an_error_for_a_person(result: dict[str, Any], place: Path) -> None:
    history.path().write_bytes(b"no database" * 100)
    with pytest.raises(PlmEdgeError, match="history"):
        history.add(of_json(result))


def test_a_result_with_fields_of_a_later_version_is_read(
    result: dict[str, Any], tmp_path: Path
) -> None:
    later = copy.deepcopy(result) | {"weather": "fine"}
    later["machine"]["colour"] = "green"
    path = tmp_path / "later.json"
    path.write_text(json.dumps(later))
    assert compare.read(path) == of_json(result)


def test_a_result_with_a_part_lacking_is_no_result(result: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "half.json"
    path.write_text(json.dumps({name: result[name] for name in ("schema", "points")}))
    with pytest.raises(PlmEdgeError, match="no result") as caught:
        compare.read(path)
    assert "plm_edge" in caught.value.why


def test_a_remembered_result_that_cannot_be_read_compares_with_nothing(
    result: dict[str, Any], place: Path
) -> None:
    import sqlite3

    history.add(slowed(result, 1))
    with sqlite3.connect(history.path()) as base:
        base.execute("update runs set result = '{}'")
    assert history.last(of_json(result)) is None
    assert history.slower(history.add(slowed(result, 0.5)), 1) == []
