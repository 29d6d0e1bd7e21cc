"""What a model will need, against the engine's own report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.machine import memory
from plm_edge.machine.memory import Room
from plm_edge.model import gguf_file, sizes
from plm_edge.model import need as needs
from testkit import plm_gguf

MIB = 2**20


def header(path: Path, arch: str, **keys: int | list[int]) -> gguf_file.GGUFFile:
    """A GGUF of `arch` with these keys (dots written __) and one small tensor."""
    writer = gguf.GGUFWriter(path, arch)
    for name, value in keys.items():
        key = f"{arch}.{name.replace('__', '.')}"
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_uint32(key, value)
    writer.add_tensor("t", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf_file.read(path)


PLM = {
    "block_count": 32,
    "embedding_length": 2048,
    "feed_forward_length": 8192,
    "attention__head_count": 16,
    "attention__head_count_kv": 16,
    "attention__kv_lora_rank": 512,
    "attention__key_length": 192,
    "attention__value_length": 128,
    "rope__dimension_count": 64,
    "context_length": 4096,
}


def test_the_share_of_keys(tmp_path: Path) -> None:
    assert sizes.share_of_keys(header(tmp_path / "m.gguf", "plm", **PLM)) == 0.5  # 128 and 128
    more = PLM | {"attention__key_length": 448}
    assert sizes.share_of_keys(header(tmp_path / "n.gguf", "plm", **more)) == 0.75
    less = {name: value for name, value in PLM.items() if name != "rope__dimension_count"}
    assert sizes.share_of_keys(header(tmp_path / "o.gguf", "plm", **less)) == 0.5


def test_plm_1_8b(tmp_path: Path) -> None:
    shape = sizes.kv_shape(header(tmp_path / "m.gguf", "plm", **PLM))
    assert shape is not None
    assert shape.latent
    assert shape.rows == (576,)
    assert 4096 * shape.bytes_per_token("f16") == 144 * MIB
    assert 4096 * shape.expanded_bytes_per_token("f16") == 1280 * MIB
    assert 4096 * shape.bytes_per_token("q8_0") == 144 * MIB * 34 // 64
    assert 4096 * shape.bytes_per_token("q4_0") == 144 * MIB * 18 // 64


def test_deepseek2(tmp_path: Path) -> None:
    keys = {**PLM, "attention__key_length": 576, "attention__value_length": 512}
    keys |= {"attention__key_length_mla": 192, "attention__value_length_mla": 128}
    shape = sizes.kv_shape(header(tmp_path / "m.gguf", "deepseek2", **keys))
    assert shape is not None
    assert shape.latent
    assert shape.rows == (576,)
    assert shape.expanded == 32 * 16 * 320


def test_grouped_queries(tmp_path: Path) -> None:
    keys = {"block_count": 28, "embedding_length": 1536, "attention__head_count": 12}
    model = header(tmp_path / "m.gguf", "qwen2", **keys, attention__head_count_kv=2)
    shape = sizes.kv_shape(model)
    assert shape is not None
    assert not shape.latent
    assert shape.bytes_per_token("f16") == 28 * 2 * 2 * 128 * 2


def test_heads_that_differ_by_layer(tmp_path: Path) -> None:
    keys = {"block_count": 4, "embedding_length": 256, "attention__head_count": 4}
    model = header(tmp_path / "m.gguf", "x", **keys, attention__head_count_kv=[4, 2, 4, 2])
    shape = sizes.kv_shape(model)
    assert shape is not None
    assert shape.bytes_per_token("f16") == (4 + 2 + 4 + 2) * 64 * 2 * 2


def test_a_model_that_does_not_say(tmp_path: Path) -> None:
    model = header(tmp_path / "m.gguf", "mamba", block_count=4)
    assert sizes.kv_shape(model) is None
    assert needs.of(model, 4096, "f16").kv == 0


def test_hostile_sizes_are_ignored(tmp_path: Path) -> None:
    keys = {**PLM, "attention__kv_lora_rank": 2**32 - 1}
    shape = sizes.kv_shape(header(tmp_path / "m.gguf", "plm", **keys))
    assert shape is not None
    assert not shape.latent
    zero = {**PLM, "attention__head_count": 0}
    assert sizes.kv_shape(header(tmp_path / "z.gguf", "plm", **zero)) is None


def test_a_row_that_is_not_whole_blocks(tmp_path: Path) -> None:
    shape = sizes.kv_shape(
        header(tmp_path / "m.gguf", "plm", **{**PLM, "rope__dimension_count": 40})
    )
    assert shape is not None
    assert shape.bytes_per_token("f16") == 32 * 552 * 2
    with pytest.raises(PlmEdgeError, match="row of 552"):
        shape.bytes_per_token("q8_0")


@pytest.mark.parametrize("kv", needs.KV_TYPES)
def test_kv_bytes_are_the_engines(tmp_path: Path, kv: str) -> None:
    path = plm_gguf.write(tmp_path / "m.gguf")
    need = needs.of(gguf_file.read(path), 1024, kv)
    with Session.open(path, Options(n_ctx=1024, kv=kv, threads=1)) as session:
        assert session.kv is not None
        assert session.kv.n_bytes == need.kv


@pytest.mark.parametrize("n_ctx", [512, 2048, 8192])
def test_the_compute_estimate_is_near_and_not_below(tmp_path: Path, n_ctx: int) -> None:
    path = plm_gguf.write(tmp_path / "m.gguf", n_ctx=n_ctx)
    estimate = needs.compute_estimate(gguf_file.read(path), n_ctx, 512)
    with Session.open(path, Options(n_ctx=n_ctx, threads=1)) as session:
        compute = session.context.compute_bytes
        assert compute > 0
        assert compute <= estimate <= 4 * compute + 8 * MIB


def test_weights_of_all_shards(tmp_path: Path) -> None:
    for i in (1, 2):
        header(tmp_path / f"m-0000{i}-of-00002.gguf", "plm", **PLM)
    model = gguf_file.read(tmp_path / "m-00001-of-00002.gguf")
    assert needs.of(model, 256, "f16").weights == 2 * (2 * 32 * 4)
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(PlmEdgeError, match="00002-of-00002"):
        needs.of(model, 256, "f16")


class TestRefusal:
    @pytest.fixture
    def model(self, tmp_path: Path) -> gguf_file.GGUFFile:
        return header(tmp_path / "m.gguf", "plm", **PLM)

    def test_names_the_numbers(self, model: gguf_file.GGUFFile) -> None:
        with pytest.raises(PlmEdgeError) as caught:
            needs.check(model, 4096, "f16", room=100 * MIB)
        error = caught.value
        assert error.code is ExitCode.RESOURCES
        assert "KV cache 144 for 4,096 tokens in f16" in error.why
        assert "100 MiB are available" in error.why

    def test_the_remedy_is_enough(self, model: gguf_file.GGUFFile) -> None:
        whole = needs.of(model, 4096, "f16").total
        assert needs.check(model, 4096, "f16", room=whole).total == whole
        with pytest.raises(PlmEdgeError) as caught:
            needs.check(model, 4096, "f16", room=whole - 1)
        assert "--ctx 2048" in caught.value.fix
        room = needs.of(model, 512, "q8_0").total
        with pytest.raises(PlmEdgeError) as caught:
            needs.check(model, 4096, "f16", room=room)
        assert "--ctx 512 --kv q8_0" in caught.value.fix

    def test_nothing_helps(self, model: gguf_file.GGUFFile) -> None:
        with pytest.raises(PlmEdgeError) as caught:
            needs.check(model, 4096, "f16", room=MIB)
        assert "--quant q4_k" in caught.value.fix

    def test_a_session_asks_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = plm_gguf.write(tmp_path / "p.gguf")
        monkeypatch.setattr(memory, "available", lambda: Room(10 * MIB, "this machine"))
        options = Options(n_ctx=512, threads=1)
        with pytest.raises(PlmEdgeError) as caught:
            Session.open(path, options)
        assert caught.value.code is ExitCode.RESOURCES
        Session.open(path, replace(options, check_memory=False)).close()
