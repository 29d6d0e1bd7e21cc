"""A header's description: what converters write is read again, and what is wrong is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from plm_edge.model import description, gguf_file
from plm_edge.model.description import describe


def described(path: Path, add: Callable[[gguf.GGUFWriter], object]) -> description.Description:
    """What is said by a GGUF with three tensors and the keys that `add` writes."""
    writer = gguf.GGUFWriter(path, "plm")
    add(writer)
    writer.add_tensor("a", np.zeros((2, 32), np.float16))
    writer.add_tensor("b", np.zeros((2, 32), np.float16))
    writer.add_tensor("c", np.zeros((1, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return describe(gguf_file.read(path))


def test_a_converted_file(tmp_path: Path) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_name("a name")
        writer.add_file_type(15)
        writer.add_context_length(4096)
        writer.add_block_count(2)
        writer.add_embedding_length(64)
        writer.add_tokenizer_pre("qwen2")
        writer.add_uint32(description.LAYOUT_VERSION_KEY, 1)
        writer.add_string(description.RECIPE_KEY, "q4_k_m")
        writer.add_string(description.SOURCE_KEY, "OWNER/NAME")
        writer.add_bool(description.SYNTHETIC_KEY, True)
        writer.add_array(description.HASHES_KEY, ["1" * 64, "2" * 64, "3" * 64])

    said = described(tmp_path / "m.gguf", add)
    assert (said.name, said.architecture, said.source) == ("a name", "plm", "OWNER/NAME")
    assert (said.layout, said.layout_version) == ("edge", 1)
    assert (said.recipe, said.quant, said.file_type) == ("q4_k_m", "q4_k_m", 15)
    assert (said.context_length, said.n_layers, said.n_embd) == (4096, 2, 64)
    assert said.pretokenizer == "qwen2"
    assert said.synthetic
    assert said.tensor_hashes is not None
    assert said.tensor_hashes.values() == ["1" * 64, "2" * 64, "3" * 64]


def test_a_file_that_says_little(tmp_path: Path) -> None:
    said = described(tmp_path / "m.gguf", lambda writer: None)
    assert (said.name, said.recipe, said.source, said.pretokenizer) == ("", "", "", "")
    assert (said.layout, said.layout_version) == ("stock", None)
    assert (said.file_type, said.context_length, said.n_layers, said.n_embd) == (None,) * 4
    assert not said.synthetic
    assert said.tensor_hashes is None
    assert said.types == {"f16": 256, "f32": 128}
    assert said.quant == "f16"


def test_values_of_other_types_count_as_missing(tmp_path: Path) -> None:
    def add(writer: gguf.GGUFWriter) -> None:
        writer.add_string("general.file_type", "15")
        writer.add_string("plm.context_length", "4096")
        writer.add_bool("plm.block_count", True)
        writer.add_array(description.LAYOUT_VERSION_KEY, [1])
        writer.add_array(description.RECIPE_KEY, ["q4_k_m"])
        writer.add_uint32(description.SOURCE_KEY, 1)
        writer.add_string(description.SYNTHETIC_KEY, "no")
        writer.add_string(description.HASHES_KEY, "1" * 64)

    said = described(tmp_path / "m.gguf", add)
    assert (said.layout, said.layout_version) == ("edge", None)
    assert (said.file_type, said.context_length, said.n_layers) == (None,) * 3
    assert (said.recipe, said.source) == ("", "")
    assert not said.synthetic
    assert said.tensor_hashes is None
