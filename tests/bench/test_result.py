"""The schema of a result: generated from its shape, and met by real results."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

from plm_edge.bench.result import schema
from plm_edge.bench.result.shape import Result, as_json, of_json
from tests.bench.conftest import check


def test_the_committed_schema_is_the_generated_one() -> None:
    assert schema.PLACE.read_text(encoding="utf-8") == schema.text()


def test_a_result_survives_the_way_through_json(measured: Result) -> None:
    text = json.dumps(as_json(measured))
    check(json.loads(text))
    again = json.dumps(as_json(of_json(json.loads(text))))
    assert json.loads(again) == json.loads(text)


def test_what_is_null_is_written_and_what_is_not_there_is_left_out(
    result: dict[str, Any],
) -> None:
    points = {point["name"]: point for point in result["points"]}
    assert points["pp32"]["skipped"] is None
    assert result["settings"]["gpu_layers"] is None
    assert {"zeros", "threads", "rows_by_layer", "interval_reached"} <= set(points["tg4"])
    assert {"zeros", "threads", "tps", "memory", "power"} & set(points["load warm"]) == set()
    assert {"comparison", "sustained", "emulation"} & set(result) == set()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda result: result.update(weather="fine"),
        lambda result: result["points"][2].update(tps=None),
        lambda result: result["points"][2].update(n_tokens=-1),
        lambda result: result["model"].update(sha256="short"),
        lambda result: result["power"].pop("overhead"),
    ],
)
def test_the_schema_refuses_what_is_no_result(result: dict[str, Any], spoil: Any) -> None:
    broken = copy.deepcopy(result)
    spoil(broken)
    with pytest.raises(jsonschema.ValidationError):
        check(broken)
