"""The profile of tiny-plm, and its picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench import profile
from plm_edge.bench.render import flame
from plm_edge.bench.result.suites import Profile
from plm_edge.bench.worker.client import Setting
from plm_edge.model import gguf_file


@pytest.fixture(scope="module")
def found(tiny_gguf: Path) -> Profile:
    return profile.measure(Setting(tiny_gguf, threads=1), n_prefill=64, depth=32)


def test_both_phases_with_every_layer(found: Profile, tiny_gguf: Path) -> None:
    assert found.schema == "plm-edge/profile/1"
    layers = gguf_file.read(tiny_gguf).arch_key("block_count")
    assert [phase.kind for phase in found.phases] == ["prefill", "decode"]
    for phase in found.phases:
        assert {item.key for item in phase.by_layer} == {-1, *range(layers)}
        operations = {item.key for item in phase.by_op}
        assert {"MUL_MAT", "MUL_MAT_SPARSE_T", "FLASH_ATTN_EXT", "RMS_NORM"} <= operations


def test_each_split_is_the_whole(found: Profile) -> None:
    for phase in found.phases:
        totals = [
            sum(item.seconds for item in items)
            for items in (phase.by_op, phase.by_part, phase.by_layer, phase.stacks)
        ]
        assert totals == pytest.approx([totals[0]] * 4)
        assert sum(item.share for item in phase.by_op) == pytest.approx(1)
        assert sum(item.nodes for item in phase.by_op) == pytest.approx(
            phase.nodes_a_step * (16 if phase.kind == "decode" else 1)
        )


def test_names_of_nodes() -> None:
    node = profile.Node("MUL_MAT", "ffn_up-12", 1.0)
    assert (node.layer, node.part) == (12, "ffn_up")
    assert profile.Node("MUL_MAT", "ffn_up-3 (view)", 1.0).layer == 3
    assert profile.Node("MUL_MAT", "result_output", 1.0).part == "result_output"
    assert profile.Node("ADD", "node_17", 1.0).part == "(unnamed)"
    assert profile.Node("ADD", "", 1.0).layer is None


def test_the_picture_fills_each_row(found: Profile) -> None:
    for phase in found.phases:
        bars = flame.rows(phase.stacks)
        for level in range(4):
            assert sum(bar[2] for bar in bars if bar[0] == level) == pytest.approx(1)
        ET.fromstring(flame.picture(phase))


def test_an_error_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(PlmEdgeError):
        profile.measure(Setting(path))
