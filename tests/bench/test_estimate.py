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
    assert pi.flops == pytest.approx(4 * 2.4e9 * 4 * 4)  # 128 bits: four lanes
    mac = estimate.of_profile(profile.find("macbook-air-m3"))
    assert mac is not None
    assert (mac.read_bytes_s, mac.reached) == (100e9, False)


def test_operations_by_the_widest_unit() -> None:
    assert estimate.flops_of(("sse2", "avx2", "avx512f"), 2, 3.0) == 2 * 3e9 * 16 * 4
    assert estimate.flops_of(("sse2", "avx2"), 2, 3.0) == 2 * 3e9 * 8 * 4
    assert estimate.flops_of(("asimd",), 2, None) is None


def test_a_prompt_is_bound_by_reading_or_by_arithmetic() -> None:
    slow = estimate.prefill(PRICE, Machine("x", 1.0, 1e9, "", True), 10, 0.5)
    assert slow == pytest.approx(10 / 1000)
    work = PRICE.prefill_flops(10, 0.5)
    assert estimate.prefill(PRICE, Machine("x", 1e12, 1e3, "", True), 10, 0.5) == pytest.approx(
        10 / (work / 1e3)
    )


def test_a_device_is_estimated_with_a_check_here(result: dict[str, Any], tiny_gguf: Path) -> None:
    """The check is the same formula, with the bandwidth that was measured here."""
    price = cost.of_file(tiny_gguf, "f16", sparse=True)
    here = estimate.of_here(result["capability"], ("avx2",), 2.0)
    found = estimate.of_device(profile.find("rpi5"), price, result, here, (0, 4096))
    assert found["estimate"] is True
    assert found["applies"] is False  # tiny-plm lies in caches
    assert [point["depth"] for point in found["decode"]] == [0, 4096]
    assert {point["formula"] for point in found["decode"]} == {estimate.FORMULA}
    assert here.read_bytes_s == result["capability"]["read_bytes_s"]
    assert here.flops == result["capability"]["threads"] * 2e9 * 8 * 4
    checks = found["check"]["points"]
    assert [point["name"] for point in checks] == ["pp32", "tg4", "tg4 @ d64"]
    for check in checks:
        assert check["ratio"] == pytest.approx(check["estimate_tps"] / check["measured_tps"])
        if check["kind"] == "decode":
            again = estimate.decode(price, here, check["depth"] + 2, check["zeros"])
            assert check["estimate_tps"] == again.tps
            assert check["formula"] == estimate.FORMULA


def test_no_bandwidth_no_estimate(result: dict[str, Any], tiny_gguf: Path) -> None:
    bare = copy.deepcopy(profile.find("rpi4"))
    bare.data["memory"] = {}
    price = cost.of_file(tiny_gguf, "f16", sparse=True)
    here = estimate.of_here(result["capability"], (), None)
    with pytest.raises(PlmEdgeError, match="cannot be estimated"):
        estimate.of_device(bare, price, result, here, (0,))
