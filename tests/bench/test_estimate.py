"""The estimate: its formula by hand, and that it says what it is."""

from __future__ import annotations

import copy
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench import kernels
from plm_edge.bench.analyse import cost, estimate, machines
from plm_edge.bench.analyse.cost import Cost
from plm_edge.bench.analyse.machines import Machine
from plm_edge.bench.analyse.products import Product
from plm_edge.bench.cycles import table
from plm_edge.bench.result.shape import Result
from plm_edge.devices.profiles import profile
from plm_edge.model import gguf_file

PRICE = Cost(
    weight_bytes=1000, down_bytes=400, params=2000, down_params=800, kv_bytes=10,
    attention_products=5, nodes=30,
    products=(
        Product(("q4_K",), 500), Product(("q6_K",), 700),
        Product(("rows q6_K", "q6_K"), 800, "zeros"),
    ),
)  # fmt: skip


def test_without_arithmetic_it_is_bandwidth_and_starting() -> None:
    machine = Machine("x", 7000.0, None, "", True, node_s=0.001)
    found = estimate.decode(PRICE, machine, 10, 0.75)
    assert found.tps == pytest.approx(1 / ((1000 - 300 + 100) / 7000 + 30 * 0.001))


def test_with_arithmetic_it_lies_between_no_and_full_overlap() -> None:
    kernels_ = {"q4_K": 10000.0, "q6_K": 5000.0}
    machine = Machine("x", 7000.0, 20000.0, "", True, kernels=kernels_, node_s=0.001)
    read, start = 800 / 7000, 0.03
    compute = 2 * 500 / 10000 + 2 * (1500 - 600) / 5000 + 2 * 10 * 5 / 20000
    found = estimate.decode(PRICE, machine, 10, 0.75)
    assert found.low == pytest.approx(1 / (read + compute + start))
    assert found.high == pytest.approx(1 / (max(read, compute) + start))
    attending = replace(machine, kernels=kernels_ | {"attention": 100.0})
    slow = compute + 2 * 10 * 5 * (1 / 100 - 1 / 20000)
    assert estimate.decode(PRICE, attending, 10, 0.75).low == pytest.approx(
        1 / (read + slow + start)
    )
    between = ((read + compute) * max(read, compute)) ** 0.5
    assert found.tps == pytest.approx(1 / (between + start))


def test_a_device_reaches_the_share_of_f_that_is_reached_here() -> None:
    here = Machine("here", 1.0, 100.0, "", True, "", {"q4_K": 30.0}, 2e-6, 3.0)
    there = Machine("there", 1.0, 50.0, "", True, clock=1.5).like(here)
    assert there.kernels == {"q4_K": 15.0}
    assert there.node_s == pytest.approx(4e-6)  # as many clocks
    assert there.kernels_source == machines.BY_SHARE
    assert Machine("dumb", 1.0, None, "", True).like(here).kernels == {}


def test_what_is_known_of_a_devices_kernels_is_no_share() -> None:
    here = Machine("here", 1.0, 100.0, "", True, "", {"q4_K": 30.0, "attention": 8.0})
    known = {"q4_K": 7.0, "rows q4_K": 3.0, "attention f16": 2.0, "attention q8_0": 1.0}
    device = Machine("there", 1.0, 50.0, "", True, "", known, kernels_source="cycles")
    there = device.like(here)
    assert there.kernels == {**known, "attention": 4.0}
    assert there.kernels_source == "cycles"
    down = Product(("rows q4_K", "q4_K"), 30, "zeros")
    assert there.seconds_of(Product(("q4_K",), 40), 0.0) == pytest.approx(2 * 40 / 7)
    assert there.seconds_of(down, 0.9) == pytest.approx(2 * 3 / 3)
    f16 = there.running([down], "f16").kernels
    assert set(f16) == {"rows q4_K", "attention f16"}
    other = [Product(("transposed q4_K", "q4_K"), 1)]
    assert set(there.running(other, "bf16").kernels) == {"q4_K", "attention"}
    price = replace(PRICE, attention=("f16", 288, 256, 4), products=())
    read = 1000 + 1e6 * 10
    found = estimate.decode(price, there, 1e6, 0.0)
    assert found.low == pytest.approx(1 / (read + 2 * 1e6 * 5 / 2.0))


def test_planes_and_two_stages_are_products_of_their_own() -> None:
    """Where their kernels are known; else a type of weights stands for all that is of it."""
    price = replace(
        PRICE,
        products=(
            Product(("upper q4_K", "q4_K"), 100),
            Product(("lower q4_K",), 100, "lower", within=True),
            Product(("codes 2 bits", "q5_K"), 40), Product(("plain q5_K", "q5_K"), 60, "head"),
        ),
    )  # fmt: skip
    assert price.types == ["q4_K", "q5_K"]
    by_type = {"q4_K": 10.0, "q5_K": 5.0}
    own = {"upper q4_K": 20.0, "lower q4_K": 4.0, "codes 2 bits": 50.0, "plain q5_K": 3.0}
    below = 100 * (1 - cost.low_skipped(0.9))
    exact = 60 * (1 - cost.HEAD_UNREAD)
    for known, compute in (
        (by_type, 2 * 100 / 10 + 2 * 40 / 5 + 2 * exact / 5),
        ({**by_type, **own}, 2 * 100 / 20 + 2 * below / 4 + 2 * 40 / 50 + 2 * exact / 3),
    ):
        machine = Machine("x", 1e12, 1.0, "", True, kernels=known)
        assert estimate.decode(price, machine, 0, 0.9).low == pytest.approx(1 / compute)


def test_kernels_are_measured_here() -> None:
    """Of each type a rate, and of starting a product a time, both above nothing."""
    found = kernels.measure(["q4_K", "f32"], 256, 1, ("f16", 288, 256, 4))
    assert set(found.types) == {"q4_K", "f32", "attention"}
    assert set(kernels.measure(["f32"], 256, 1).types) == {"f32"}
    assert all(one.ops_s > 1e6 for one in found.types.values())
    assert found.read_bytes_s == statistics.median(found.read_samples) > 1e6
    assert 0 <= found.node_s < 1
    here = machines.of_here([found, found], ("avx2",), 2.0)
    assert here.read_bytes_s == found.read_bytes_s
    assert here.kernels["q4_K"] == found.types["q4_K"].ops_s


def test_a_profile_gives_what_was_reached_before_the_sheet() -> None:
    pi = machines.of_profile(profile.find("rpi5"))
    assert pi is not None
    assert (pi.read_bytes_s, pi.reached) == (10.25e9, True)
    assert pi.flops == pytest.approx(4 * 2.4e9 * 4 * 4)  # 128 bits: four lanes
    mac = machines.of_profile(profile.find("macbook-air-m3"))
    assert mac is not None
    assert (mac.read_bytes_s, mac.reached) == (100e9, False)


def test_operations_by_the_widest_unit() -> None:
    assert machines.flops_of(("sse2", "avx2", "avx512f"), 2, 3.0) == 2 * 3e9 * 16 * 4
    assert machines.flops_of(("sse2", "avx2"), 2, 3.0) == 2 * 3e9 * 8 * 4
    assert machines.flops_of(("asimd",), 2, None) is None


def test_a_prompt_is_bound_by_reading_or_by_arithmetic() -> None:
    slow = estimate.prefill(PRICE, Machine("x", 1.0, 1e9, "", True), 10, 0.5)
    assert slow == pytest.approx(10 / 1000)
    work = PRICE.prefill_flops(10, 0.5)
    assert estimate.prefill(PRICE, Machine("x", 1e12, 1e3, "", True), 10, 0.5) == pytest.approx(
        10 / (work / 1e3)
    )


MEASURED = kernels.Rates(
    2, 3e10, [2e10, 3e10, 5e10], "so", {"q4_K": kernels.KernelRate(1e11, 1e-6)}, 1e-6
)


def test_a_device_is_estimated_with_a_check_here(measured: Result, tiny_gguf: Path) -> None:
    """The check is the same formula, with what was measured here."""
    price = cost.of(gguf_file.read(tiny_gguf), "f16", sparse=True)
    here = machines.of_here([MEASURED], ("avx2",), 2.0)
    assert here.flops == 2 * 2e9 * 8 * 4
    found = estimate.of_device(profile.find("rpi5"), price, measured, here, (0, 4096))
    assert found.estimate is True
    assert found.applies is False  # tiny-plm lies in caches
    assert [point.depth for point in found.decode] == [0, 4096]
    assert {point.formula for point in found.decode} == {estimate.FORMULA}
    pi = found.machine
    assert pi.flops
    cycles = table.known()["Cortex-A76"]
    for kernel in ("q4_K", "rows q4_K", "upper q4_K", "lower q4_K", "transposed q5_K"):
        assert pi.kernels[kernel] == pytest.approx(2 * 4 * 2.4e9 / cycles[kernel])
    assert "Cortex-A76" in pi.kernels_source
    mac = estimate.of_device(profile.find("macbook-air-m3"), price, measured, here, (0,)).machine
    assert mac.flops
    assert mac.kernels["q4_K"] == pytest.approx(1e11 * mac.flops / here.flops)
    assert mac.kernels_source == machines.BY_SHARE
    checks = found.check.points
    assert [point.name for point in checks] == ["pp32", "tg4", "tg4 @ d64"]
    for check in checks:
        assert check.ratio == pytest.approx(check.estimate_tps / check.measured_tps)
        if check.kind == "decode":
            again = estimate.decode(price, here, check.depth + 2, check.zeros)
            assert check.estimate_tps == again.tps
            assert check.formula == estimate.FORMULA


def test_this_machine_is_estimated_by_what_was_measured(measured: Result, tiny_gguf: Path) -> None:
    price = cost.of(gguf_file.read(tiny_gguf), "f16", sparse=True)
    here = machines.of_here([MEASURED], ("avx2",), 2.0)
    pi = profile.find("rpi5")
    itself = replace(pi, data=pi.data | {"name": machines.HERE})
    found = estimate.of_device(itself, price, measured, here, (0,))
    assert found.machine.read_bytes_s == 3e10
    zeros = found.zeros
    assert found.decode[0].estimate_tps == estimate.decode(price, here, 0, zeros).tps


def test_no_bandwidth_no_estimate(measured: Result, tiny_gguf: Path) -> None:
    bare = copy.deepcopy(profile.find("rpi4"))
    bare.data["memory"] = {}
    price = cost.of(gguf_file.read(tiny_gguf), "f16", sparse=True)
    here = machines.of_here([MEASURED], (), None)
    with pytest.raises(PlmEdgeError, match="cannot be estimated"):
        estimate.of_device(bare, price, measured, here, (0,))
