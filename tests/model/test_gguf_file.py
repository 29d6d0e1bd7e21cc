"""The header reader against the gguf package, and against files that are cut, bent or hostile."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import library
from plm_edge.model import ggml_types, gguf_file
from testkit import plm_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plm_gguf.write(tmp_path_factory.mktemp("gguf") / "m.gguf")


def test_the_type_table_is_ggmls() -> None:
    engine = library.load()
    ggml = engine.ggml
    ggml.ggml_type_name.restype = ctypes.c_char_p
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_size.restype = ctypes.c_size_t
    theirs = {}
    for number in range(engine.bindings.GGML_TYPE_COUNT):
        name = ggml.ggml_type_name(number)
        if name and ggml.ggml_type_size(number):  # types that ggml removed have no size
            sizes = ggml.ggml_blck_size(number), ggml.ggml_type_size(number)
            theirs[number] = (name.decode(), *sizes)
    assert theirs == ggml_types.TENSOR_TYPES


def test_same_as_the_gguf_package(model: Path) -> None:
    ours, theirs = gguf_file.read(model), gguf.GGUFReader(model)
    fields = {name: f for name, f in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.keys) == list(fields)
    for name, field in fields.items():
        value: Any = ours.keys[name]
        if isinstance(value, gguf_file.Array):
            assert value.length == len(field.contents())
            value = value.values()
        assert value == field.contents(), name
    assert [(t.name, list(t.shape), t.n_bytes, t.offset, t.n_values) for t in ours.tensors] == [
        (t.name, t.shape.tolist(), t.n_bytes, t.data_offset, t.n_elements) for t in theirs.tensors
    ]
    assert len(ours.tensors) == 2 + 9 * plm_gguf.N_LAYERS
    assert ours.architecture == "plm"
    assert ours.arch_key("block_count") == plm_gguf.N_LAYERS


def test_all_value_types(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "plm")
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65535)
    writer.add_int16("i16", -32768)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 1e300)
    writer.add_bool("no", False)
    writer.add_string("text", "größe\n")
    writer.add_array("nested", [[1, 2], [3]])
    writer.add_array("empty_is_left_out", [])
    writer.add_tensor("t", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    keys = gguf_file.read(path).keys
    assert [keys[n] for n in ("u8", "i8", "u16", "i16", "i32", "u64", "i64", "f32", "f64")] == [
        255, -128, 65535, -32768, -(2**31), 2**64 - 1, -(2**63), 0.5, 1e300,
    ]  # fmt: skip
    assert keys["no"] is False
    assert keys["text"] == "größe\n"
    assert keys["nested"].length == 2
    assert [inner.values() for inner in keys["nested"].values()] == [[1, 2], [3]]


def test_every_truncation_of_the_header_is_said(model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    header_end = gguf_file.read(model).tensors[0].offset
    short = tmp_path / "short.gguf"
    lengths = [*range(300), *range(300, header_end, 37), header_end - 1, len(whole) - 1]
    for length in lengths:
        short.write_bytes(whole[:length])
        with pytest.raises(PlmEdgeError) as caught:
            gguf_file.read(short)
        assert caught.value.code is ExitCode.INPUT
        expected = "half a download" if length >= 4 else "not a GGUF"
        assert expected in caught.value.what, length


def bend(model: Path, target: Path, changes: dict[int, bytes]) -> Path:
    data = bytearray(model.read_bytes())
    for offset, new in changes.items():
        data[offset : offset + len(new)] = new
    target.write_bytes(data)
    return target


def entry(model: Path, name: str) -> int:
    """Where the tensor entry's fields begin: n_dims, lengths, type, offset."""
    data = model.read_bytes()
    needle = struct.pack("<Q", len(name)) + name.encode()
    assert data.count(needle) == 1
    return data.index(needle) + len(needle)


U64 = 2**64


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (4, struct.pack("<I", 1), "version 1"),
        (4, struct.pack(">I", 3), "big-endian"),
        (8, struct.pack("<Q", U64 - 1), "half a download"),  # tensors
        (16, struct.pack("<Q", U64 - 1), "half a download"),  # keys
        (8, struct.pack("<Q", 2**60), "half a download"),
        (24, struct.pack("<Q", U64 - 1), "a string of"),  # the first key's name
        (24, struct.pack("<Q", 2**25), "half a download"),
    ],
)
def test_bent_head(model: Path, tmp_path: Path, where: int, value: bytes, said: str) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        gguf_file.read(bend(model, tmp_path / "m.gguf", {where: value}))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, struct.pack("<I", 0), "0 dimensions"),
        (0, struct.pack("<I", 5), "5 dimensions"),
        (4, struct.pack("<Q", 0), "the shape [0"),
        (4, struct.pack("<QQ", 2**32, 2**32), "the shape"),  # the product is 0 in 64 bits
        (4, struct.pack("<QQ", 2**40, 2**21), "ends at byte"),
        (4, struct.pack("<QQ", 2**63, 2), "the shape"),
        (20, struct.pack("<I", 4), "ggml type number 4"),  # a type that ggml removed
        (20, struct.pack("<I", 2**31), "ggml type number"),
        (20, struct.pack("<I", 12), "not whole q4_K blocks"),
        (24, struct.pack("<Q", 1), "not a multiple of 32"),
        (24, struct.pack("<Q", U64 - 32), "ends at byte"),  # wraps to the file's start in 64 bits
    ],
)
def test_bent_tensor_entry(model: Path, tmp_path: Path, at: int, value: bytes, said: str) -> None:
    start = entry(model, "blk.0.attn_q.weight")  # two dimensions: fields of 4, 16, 4 and 8 bytes
    with pytest.raises(PlmEdgeError) as caught:
        gguf_file.read(bend(model, tmp_path / "m.gguf", {start + at: value}))
    assert said in str(caught.value)


def test_the_same_tensor_twice(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes().replace(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight")
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(PlmEdgeError, match="twice"):
        gguf_file.read(tmp_path / "m.gguf")


def test_deep_arrays_are_refused(tmp_path: Path) -> None:
    nested = struct.pack("<IQ", 9, 1) * 10_000
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k"
    (tmp_path / "m.gguf").write_bytes(head + struct.pack("<I", 9) + nested)
    with pytest.raises(PlmEdgeError, match="unknown type 9"):
        gguf_file.read(tmp_path / "m.gguf")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_bent_header_escapes(model: Path, data: st.DataObject) -> None:
    """Any change to the header is either harmless or a PlmEdgeError, and never reads outside."""
    whole = bytearray(model.read_bytes())
    end = gguf_file.read(model).tensors[0].offset
    changes = data.draw(
        st.lists(st.tuples(st.integers(0, end - 1), st.integers(0, 255)), min_size=1, max_size=8)
    )
    for offset, value in changes:
        whole[offset] = value
    bent = model.with_name("bent.gguf")
    bent.write_bytes(whole)
    try:
        read = gguf_file.read(bent)
    except PlmEdgeError:
        return
    for tensor in read.tensors:
        assert 0 <= tensor.offset <= tensor.offset + tensor.n_bytes <= len(whole)
    for value in read.keys.values():
        if isinstance(value, gguf_file.Array):
            assert len(value.values(3)) == min(3, value.length)


def test_shards(tmp_path: Path) -> None:
    names = [p.name for p in gguf_file.shards(tmp_path / "m-00002-of-00003.gguf")]
    assert names == [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    for name in ("m.gguf", "m-1-of-3.gguf", "a-of-b.gguf", "-00001-of-00002.gguf"):
        assert [p.name for p in gguf_file.shards(tmp_path / name)] == [name]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """To open a pipe waits for somebody who writes to it."""
    pipe = tmp_path / "model.gguf"
    os.mkfifo(pipe)
    assert not gguf_file.is_gguf(pipe)
    with pytest.raises(PlmEdgeError, match="is not a file") as error:
        gguf_file.read(pipe)
    assert "it is a pipe" in error.value.why
    with pytest.raises(PlmEdgeError, match="is not a file"):
        gguf_file.read(Path(os.devnull))


def test_only_a_header_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small limit stands for a large file: the header must lie within, the weights need not."""
    path = plm_gguf.write(tmp_path / "m.gguf")
    whole = gguf_file.read(path)
    start = min(tensor.offset for tensor in whole.tensors)
    monkeypatch.setattr(gguf_file, "MAX_HEADER", start)
    assert gguf_file.read(path) == whole
    for limit in (start // 2, 3000, 64, 8):
        monkeypatch.setattr(gguf_file, "MAX_HEADER", limit)
        with pytest.raises(PlmEdgeError, match="is damaged"):
            gguf_file.read(path)
