"""The estimate: its formula by hand, and that it says what it is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from plm_edge.bench import cost, estimate
from plm_edge.bench.cost import Cost
from plm_edge.bench.estimate import Machine
from plm_edge.errors import PlmEdgeError
from plm_edge.fleet import profile

PRICE = Cost(
    weight_bytes=1000, down_bytes=400, params=2000, down_params=800, kv_bytes=10,
    attention_products=5,
)  # fmt: skip


def test_without_arithmetic_it_is_bandwidth_alone() -> None:
    found = estimate.decode(PRICE, Machine("x", 7000.0, None, "", True), 10, 0.75)
    assert found.tps == pytest.approx(7000 / (1000 - 300 + 100))


def test_with_arithmetic_it_lies_between_no_and_full_overlap() -> None:
    read, compute = 800 / 7000, 2 * (2000 - 600 + 50) / 20000
    found = estimate.decode(PRICE, Machine("x", 7000.0, 20000.0, "", True), 10, 0.75)
    assert found.low == pytest.approx(1 / (read + compute))
    assert found.high == pytest.approx(1 / max(read, compute))
    assert found.tps == pytest.approx((found.low * found.high) ** 0.5)


def test_a_profile_gives_what_was_reached_before_the_sheet() -> None:
    pi = estimate.of_profile(profile.find("rpi5"))
    assert pi is not None
    assert (pi.read_bytes_s, pi.reached) == (10.25e9, True)
    mac = estimate.of_profile(profile.find("macbook-air-m3"))
    assert mac is not None
    assert (mac.read_bytes_s, mac.reached) == (100e9, False)


def test_a_device_is_estimated_with_a_check_here(result: dict[str, Any], tiny_gguf: Path) -> None:
    price = cost.of_file(tiny_gguf, "f16", sparse=True)
    found = estimate.of_device(profile.find("rpi5"), price, result, (0, 4096))
    assert found["estimate"] is True
    assert [point["depth"] for point in found["decode"]] == [0, 4096]
    assert [point["name"] for point in found["check"]["points"]] == ["tg4", "tg4 @ d64"]
    for point in found["check"]["points"]:
        assert point["ratio"] == pytest.approx(point["estimate_tps"] / point["measured_tps"])


def test_no_bandwidth_no_estimate(result: dict[str, Any], tiny_gguf: Path) -> None:
    bare = copy.deepcopy(profile.find("rpi4"))
    bare.data["memory"] = {}
    price = cost.of_file(tiny_gguf, "f16", sparse=True)
    with pytest.raises(PlmEdgeError, match="cannot be estimated"):
        estimate.of_device(bare, price, result, (0,))
