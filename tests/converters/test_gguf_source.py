"""A GGUF as the source: other types, other layouts, and what cannot be done without loss."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFWriter

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import main
from plm_edge.converters.convert import convert
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.model.description import LAYOUT_VERSION_KEY
from testkit.checkout import Upstream
from tests.converters.conftest import said
from tests.converters.gguf_content import assert_same, read
from tests.converters.imatrix_files import write_imatrix


@pytest.fixture(scope="module")
def made(large: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The same model by (type, layout)."""
    folder = tmp_path_factory.mktemp("gguf")
    files = {}
    for quant in ("f32", "f16", "bf16", "q8_0", "q4_k"):
        for layout in ("stock", "edge"):
            files[quant, layout] = out = folder / f"{quant}-{layout}.gguf"
            convert(large, quant=quant, layout=layout, out=out)
    return files


Made = dict[tuple[str, str], Path]


@pytest.mark.parametrize("quant", ["f32", "f16", "bf16"])
def test_there_and_back(made: Made, tmp_path: Path, quant: str) -> None:
    """stock -> edge -> stock gives back the same tensors, and on the way what convert makes."""
    edge, stock = tmp_path / "edge.gguf", tmp_path / "stock.gguf"
    report = convert(made[quant, "stock"], layout="edge", out=edge)
    assert (report.quant, report.warnings) == ("copy", ())
    assert_same(read(edge), read(made[quant, "edge"]))
    convert(edge, layout="stock", out=stock)
    assert_same(read(stock), read(made[quant, "stock"]))


@pytest.mark.parametrize("quant", ["q8_0", "q4_k"])
@pytest.mark.parametrize("layout", ["stock", "edge"])
def test_quantised_in_its_own_layout_is_copied(
    made: Made, tmp_path: Path, quant: str, layout: str
) -> None:
    convert(made[quant, layout], layout=layout, out=tmp_path / "m.gguf")
    assert_same(read(tmp_path / "m.gguf"), read(made[quant, layout]))


@pytest.mark.parametrize(("one", "other"), [("stock", "edge"), ("edge", "stock")])
def test_quantised_into_the_other_layout(made: Made, tmp_path: Path, one: str, other: str) -> None:
    """The blocks of ffn_down lie along the other side: that loses a little, and is told."""
    out = tmp_path / "m.gguf"
    with pytest.raises(PlmEdgeError) as error:
        convert(made["q8_0", one], layout=other, out=out)
    assert "q8_0, and is to be turned" in said(error)
    assert not out.exists()
    report = convert(made["q8_0", one], layout=other, out=out, allow_requantize=True)
    assert "9 tensors were quantised already" in report.warnings[0]
    found, expected = read(out), read(made["q8_0", other])
    for name, tensor in expected.tensors.items():
        values = found.tensors[name].values
        assert abs(values - tensor.values).max() < 0.02 * abs(tensor.values).max(), name
        if "ffn_down" not in name:
            assert found.tensors[name].identity == tensor.identity
    # f32 holds what q8_0 held: nothing to allow.
    convert(made["q8_0", one], quant="f32", layout=other, out=out)


def test_named_file_of_the_default(
    made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert convert(made["f16", "stock"]).out == Path("f16-stock-edge.gguf")
    assert convert(made["f16", "stock"], quant="Q8_0").out == Path("f16-stock-q8_0.gguf")


def run_quantize(upstream: Upstream, *arguments: object) -> None:
    command = [str(part) for part in (upstream.bin / "llama-quantize", *arguments)]
    environment = os.environ | {"LD_LIBRARY_PATH": str(upstream.bin)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        ("f16", "q4_k_m"), ("bf16", "q6_k"), ("f32", "iq4_xs"), ("f32", "bf16"), ("bf16", "f16"),
        ("q8_0", "q4_k_m"), ("q4_k", "q5_0"), ("q4_k", "f16"), ("q8_0", "copy"), ("q4_k", "f32"),
    ],
)  # fmt: skip
def test_same_as_llama_quantize(
    upstream: Upstream, made: Made, large: Path, tmp_path: Path, present: str, wanted: str
) -> None:
    source, theirs = made[present, "stock"], tmp_path / "theirs.gguf"
    run_quantize(upstream, "--allow-requantize", source, theirs, wanted, 2)
    out = tmp_path / "m.gguf"
    quant = None if wanted == "copy" else wanted
    convert(source, quant=quant, layout="stock", out=out, allow_requantize=True)
    assert_same(read(out), read(theirs))


def test_same_as_llama_quantize_with_a_matrix(
    upstream: Upstream, made: Made, large: Path, tmp_path: Path
) -> None:
    matrix = write_imatrix(tmp_path / "matrix", large, legacy=False)
    source, theirs = made["bf16", "stock"], tmp_path / "theirs.gguf"
    run_quantize(upstream, "--imatrix", matrix, source, theirs, "iq3_s", 2)
    convert(source, quant="iq3_s", layout="stock", out=tmp_path / "m.gguf", imatrix=matrix)
    assert_same(read(tmp_path / "m.gguf"), read(theirs))
    with pytest.raises(PlmEdgeError, match="--imatrix has nothing to do"):
        convert(source, imatrix=matrix, out=tmp_path / "m.gguf")


def test_from_any_layout_to_any_type(made: Made, large: Path, tmp_path: Path) -> None:
    """From bf16, the checkpoint's own type, nothing tells the ways apart."""
    for layout in ("stock", "edge"):
        convert(large, quant="q4_k", layout=layout, out=tmp_path / "direct.gguf")
        for present in ("stock", "edge"):
            convert(made["bf16", present], quant="q4_k", layout=layout, out=tmp_path / "m.gguf")
            assert_same(read(tmp_path / "m.gguf"), read(tmp_path / "direct.gguf"))


def test_requantising_needs_leave(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.gguf"
    arguments = ["convert", str(made["q8_0", "edge"]), "--quant", "q4_k", "--out", str(out)]
    assert main([*arguments]) == ExitCode.USAGE
    assert "--allow-requantize" in capsys.readouterr().err
    assert not out.exists()
    assert main([*arguments, "--allow-requantize"]) == 0
    assert "q8_0 about 0.5%" in capsys.readouterr().err.replace("\n", " ")


def rewrite(path: Path, out: Path, **changes: object) -> Path:
    """A copy with keys changed, or removed where None; tensors named in `without` left out."""
    reader = GGUFReader(path)
    writer = GGUFWriter(out, str(changes.pop("arch", "plm")))
    without = changes.pop("without", ())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = changes.get(name.replace(".", "_"), field.contents())
        if value is not None:
            sub = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, value, field.types[0], sub)
    for tensor in reader.tensors:
        if tensor.name not in str(without):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.mark.parametrize("named", ["blk.0.attn_kv_b.weight", "token_embd.weight"])
def test_a_list_of_planes_that_names_what_cannot_be(
    tiny_gguf: Path, tmp_path: Path, named: str
) -> None:
    source = rewrite(tiny_gguf, tmp_path / "source.gguf", plm_edge_layout_planes=[named])
    with pytest.raises(PlmEdgeError) as refused:
        convert(source, out=tmp_path / "m.gguf")
    assert f"{named} cannot be in planes" in said(refused)
    with pytest.raises(PlmEdgeError) as unloaded:
        Session.open(source, Options(n_ctx=64))
    assert f"{named} cannot be in planes" in said(unloaded)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"arch": "llama"}, "is a llama"),
        ({"plm_block_count": None}, "plm.block_count is None"),
        ({"plm_block_count": 8}, "has blk.8."),
        ({"plm_block_count": 10}, "does not have blk.9."),
        ({"plm_attention_key_length": 7}, "key_length is 7"),
        ({"plm_attention_value_length": 64}, "has the shape"),
        ({"plm_rope_freq_base": float("nan")}, "freq_base is nan"),
        ({"plm_edge_layout_version": 99}, "version 99, known are 1 to 2"),
        ({"without": "blk.3.ffn_up.weight"}, "does not have blk.3.ffn_up.weight"),
        ({"plm_edge_layout_version": None}, "has the shape"),
    ],
)
def test_file_that_contradicts_itself(
    made: Made, tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    source = rewrite(made["f16", "edge"], tmp_path / "source.gguf", **changes)
    with pytest.raises(PlmEdgeError) as error:
        convert(source, out=tmp_path / "m.gguf")
    assert expected in said(error)
    assert not (tmp_path / "m.gguf").exists()


def test_cut_off_damaged_or_no_gguf(made: Made, tmp_path: Path) -> None:
    data = made["q8_0", "edge"].read_bytes()
    for name, content in {"cut": data[: len(data) // 2], "text": b"hello", "none": b""}.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        with pytest.raises(PlmEdgeError) as error:
            convert(path, out=tmp_path / "m.gguf")
        said(error)
    spoiled = bytearray(data)
    tensor = next(t for t in GGUFReader(made["q8_0", "edge"]).tensors if "ffn_up" in t.name)
    spoiled[tensor.data_offset : tensor.data_offset + 2] = b"\x00\x7c"
    (tmp_path / "bad.gguf").write_bytes(spoiled)
    with pytest.raises(PlmEdgeError, match=r"ffn_up\.weight have changed"):
        convert(tmp_path / "bad.gguf", out=tmp_path / "m.gguf")
    # Of another tool, which left no hashes: what can be seen is seen.
    unhashed = rewrite(tmp_path / "bad.gguf", tmp_path / "b.gguf", plm_edge_tensors_sha256=None)
    with pytest.raises(PlmEdgeError, match="no finite number"):
        convert(unhashed, out=tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_changed_weights_are_not_converted(made: Made, tmp_path: Path) -> None:
    """Numbers as good as any others: only the hashes tell."""
    data = bytearray(made["f16", "stock"].read_bytes())
    tensor = next(t for t in GGUFReader(made["f16", "stock"]).tensors if "attn_q" in t.name)
    data[tensor.data_offset + 100] ^= 1
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(PlmEdgeError) as error:
        convert(tmp_path / "bad.gguf", quant="q8_0", out=tmp_path / "m.gguf")
    assert f"{tensor.name} have changed" in said(error)
    assert not (tmp_path / "m.gguf").exists()


def test_onto_itself(made: Made, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    data = made["f16", "stock"].read_bytes()
    source.write_bytes(data)
    (tmp_path / "link.gguf").symlink_to(source)
    for out in (source, tmp_path / "link.gguf"):
        with pytest.raises(PlmEdgeError, match="is the source itself"):
            convert(source, quant="q8_0", out=out)
    assert source.read_bytes() == data


def test_provenance_of_a_gguf(made: Made, tmp_path: Path) -> None:
    convert(made["f16", "stock"], quant="q8_0", out=tmp_path / "m.gguf")
    content = read(tmp_path / "m.gguf")
    assert content.value("plm_edge.source") == "f16-stock.gguf"
    assert content.value("plm_edge.recipe") == "q8_0"
    assert content.value(LAYOUT_VERSION_KEY) == 1
