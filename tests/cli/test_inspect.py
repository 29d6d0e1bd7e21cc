"""`plm-edge inspect`: figures against independent ones, for GGUFs and checkpoints."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import pytest

from testkit import plm_gguf
from testkit.checkout import ROOT
from testkit.cli import Cli


def report(cli: Cli, path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(cli("inspect", path, "--json").stdout)
    assert data["schema"] == "plm-edge/inspect/1"
    return data


def test_a_gguf(cli: Cli, models: Path) -> None:
    path = models / "abc.gguf"
    got, reader = report(cli, path), gguf.GGUFReader(path)
    assert (got["kind"], got["architecture"], got["name"]) == ("gguf", "plm", "test-model")
    assert got["layout"] == {"name": "stock", "version": None}
    assert got["file_bytes"] == path.stat().st_size
    assert got["params"] == sum(int(t.n_elements) for t in reader.tensors)
    assert got["tensor_bytes"] == sum(int(t.n_bytes) for t in reader.tensors)
    assert got["bits_per_weight"] == 32
    assert got["types"] == {
        "f32": {"tensors": 20, "params": got["params"], "bytes": got["tensor_bytes"]}
    }
    assert [t["name"] for t in got["tensors"]] == [t.name for t in reader.tensors]
    keys = {key["name"]: key for key in got["keys"]}
    assert keys["plm.attention.kv_lora_rank"]["value"] == plm_gguf.LORA
    assert keys["tokenizer.ggml.tokens"]["length"] == plm_gguf.N_VOCAB
    assert keys["tokenizer.ggml.tokens"]["element"] == "str"


def test_kv_cost_of_a_gguf(cli: Cli, models: Path) -> None:
    cost = report(cli, models / "abc.gguf")["kv_per_1000_tokens"]
    row, layers = plm_gguf.LATENT_ROW, plm_gguf.N_LAYERS
    assert cost["latent"] is True
    assert cost["values_per_token_and_layer"] == row
    assert cost["expanded_values_per_token_and_layer"] == plm_gguf.EXPANDED_ROW
    assert cost["types"] == {
        kind: {
            "bytes": 1000 * layers * row * bytes_per_32 // 32,
            "expanded_bytes": 1000 * layers * plm_gguf.EXPANDED_ROW * bytes_per_32 // 32,
        }
        for kind, bytes_per_32 in (("f16", 64), ("q8_0", 34), ("q4_0", 18))
    }


def test_the_edge_layout_is_named(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "plm")
    writer.add_uint32("plm_edge.layout.version", 7)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert report(cli, path)["layout"] == {"name": "edge", "version": 7}
    assert "edge 7" in cli("inspect", path).stdout


def write_checkpoint(folder: Path, config: dict[str, Any], shapes: dict[str, list[int]]) -> Path:
    """Tensors of zeros in bf16."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    entries, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * shape[0] * shape[1]
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(end)
    (folder / "model.safetensors").write_bytes(data)
    return folder


PLM_1_8B = {
    "architectures": ["PLMForCausalLM"],
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}


def test_a_checkpoint(cli: Cli, tmp_path: Path) -> None:
    shapes = {"model.layers.0.a": [8, 16], "model.layers.1.a": [8, 16], "b": [4, 4]}
    folder = write_checkpoint(tmp_path / "plm", PLM_1_8B, shapes)
    got = report(cli, folder)
    assert (got["kind"], got["architecture"]) == ("checkpoint", "PLMForCausalLM")
    assert {t["name"]: t["shape"] for t in got["tensors"]} == shapes
    assert got["types"] == {"bf16": {"tensors": 3, "params": 272, "bytes": 544}}
    # 4096 tokens in f16: 32 layers x 576 values against 32 x 16 x (192 + 128)
    f16 = got["kv_per_1000_tokens"]["types"]["f16"]
    assert f16["bytes"] * 4.096 == 144 * 2**20
    assert f16["expanded_bytes"] * 4.096 == 1280 * 2**20
    text = cli("inspect", folder).stdout
    assert "model.layers.N.a" in text
    assert "576 instead of 5,120 values a token and layer" in text
    every = cli("inspect", folder, "--tensors").stdout
    assert "model.layers.1.a" in every


def test_the_bundled_checkpoint(cli: Cli) -> None:
    folder = ROOT / "examples/tiny-plm/checkpoint"
    got = report(cli, folder)
    assert got["architecture"] == "PLMForCausalLM"
    assert got["kv_per_1000_tokens"]["latent"] is True
    by_file = report(cli, folder / "model.safetensors")
    assert by_file["tensors"] == got["tensors"]


def test_tensors_are_folded_over_layers(cli: Cli, models: Path) -> None:
    text = cli("inspect", models / "abc.gguf").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("blk.N.ffn_up.weight")]
    assert line.split() == [
        "blk.N.ffn_up.weight",
        "x",
        "2",
        "288",
        "x",
        "288",
        "f32",
        "648.0",
        "KiB",
    ]
    assert "blk.1" not in text
    assert "blk.1.ffn_up.weight" in cli("inspect", models / "abc.gguf", "--tensors").stdout


@pytest.mark.parametrize("what", ["missing", "empty folder", "half", "text"])
def test_errors(cli: Cli, models: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "m.gguf"
    if what == "empty folder":
        path.mkdir()
    elif what == "half":
        path.write_bytes((models / "abc.gguf").read_bytes()[:5000])
    elif what == "text":
        path.write_text("hello")
    cli.fails("inspect", path, code=3)
