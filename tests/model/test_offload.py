"""How many layers go to GPUs, reckoned from a header and from what is free."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from plm_edge.converters.convert import convert
from plm_edge.engine import accelerators
from plm_edge.model import gguf_file, need, offload, sizes
from plm_edge.model.gguf_file import GGUFFile
from plm_edge.model.need import MIB
from plm_edge.model.offload import Gpu, Offload, Parts
from testkit.checkout import ROOT

TINY = ROOT / "examples/tiny-plm/checkpoint"
TOTAL = 8 << 30
MARGIN = TOTAL // offload.MARGIN_SHARE


@pytest.fixture
def header(tiny_gguf: Path) -> GGUFFile:
    return gguf_file.read(tiny_gguf)


def card(free: int, name: str = "CUDA0") -> Gpu:
    return Gpu(name, "a card", free, TOTAL)


def reckon(header: GGUFFile, *gpus: Gpu, wanted: int | None = None) -> Offload:
    return offload.reckon(header, gpus, 2000, "f16", wanted=wanted)


def test_bytes_are_those_of_the_file(header: GGUFFile) -> None:
    found = offload.parts(header)
    embedding = next(one for one in header.tensors if one.name == "token_embd.weight").n_bytes
    norm = next(one for one in header.tensors if one.name == "output_norm.weight").n_bytes
    assert found.whole == header.tensor_bytes == sum(found.layers) + found.output
    assert (found.output, found.twice) == (embedding + norm, embedding)
    assert Parts.from_json(asdict(found)) == found


def test_what_fits_goes_and_no_more(header: GGUFFile) -> None:
    """At each boundary: with exactly enough for N layers it is N, with a byte less N - 1."""
    assert reckon(header, card(TOTAL)).layers == 7
    for layers in range(7, 1, -1):
        needed = reckon(header, card(TOTAL), wanted=layers).needed
        assert reckon(header, card(needed + MARGIN)).layers == layers
        less = reckon(header, card(needed + MARGIN - 1))
        assert less.layers == (layers - 1 if layers > 2 else 0)
        assert less.fits


def test_the_parts_of_what_goes(header: GGUFFile) -> None:
    where, n_ctx = offload.parts(header), 2048  # whole blocks of 256 cells
    a_token = sizes.of(header).kv
    assert a_token is not None
    three = reckon(header, card(TOTAL), wanted=3)
    assert three.weights == where.output + sum(where.layers[-2:])
    assert three.kv == n_ctx * a_token.bytes_per_token("f16") * 2 // 6
    assert three.compute >= need.compute_estimate(header, 2000, 512)
    kept = sum(where.layers[:4]) + where.twice
    assert three.share_here == pytest.approx(kept / where.whole)
    assert reckon(header, card(TOTAL), wanted=0).share_here == 1


@pytest.mark.parametrize("layout", ["edge", "stock"])
def test_devices_without_the_sparse_product_hold_copies(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "model.gguf"
    convert(TINY, quant="q4_k", layout=layout, out=path)
    header = gguf_file.read(path)
    metal, cuda = (reckon(header, card(TOTAL, name), wanted=7) for name in ("Metal", "CUDA0"))
    down = sum(one.n_values for one in header.tensors if "ffn_down" in one.name)
    heads = sum(one.n_values for one in header.tensors if "attn_kv_b" in one.name)
    assert heads * 34 // 32 > metal.weights - cuda.weights - (down * 34 // 32) * (layout == "edge")
    assert metal.weights > cuda.weights


def test_several_gpus_share_by_what_is_free(header: GGUFFile) -> None:
    """Each has its own buffers to compute in, and its own margin."""
    one, two = reckon(header, card(TOTAL)), reckon(header, card(TOTAL), card(TOTAL, "CUDA1"))
    assert (two.layers, two.weights, two.compute) == (7, one.weights, 2 * one.compute)
    assert two.words == ("--device", "CUDA0,CUDA1", "--n-gpu-layers", "7")
    # one that is all but full gets its share all the same, as the engine does it: fewer go
    beside = card(TOTAL // 8), card(MARGIN + MIB, "CUDA1")
    assert not reckon(header, *beside, wanted=7).fits
    assert 0 < reckon(header, *beside).layers < 7


def test_words_and_sentences(header: GGUFFile) -> None:
    whole, part = reckon(header, card(TOTAL)), reckon(header, card(TOTAL), wanted=5)
    assert whole.note.startswith("all 6 layers and the output on CUDA0 (a card): about ")
    assert "of 8,192 MiB free" in whole.note
    assert part.note.startswith("4 of 6 layers and the output")
    some = reckon(header, card(part.needed + MARGIN))
    assert some.note.endswith(f"of which {need.mib(MARGIN)} stay unused; the rest here")
    none = reckon(header, card(100 * MIB))
    assert none.note.startswith("no layers on CUDA0 (a card): of 100 MiB free there 512 stay")
    assert none.words == ("--device", "none")
    assert offload.load_mode(none.words) == "auto"
    assert offload.load_mode(part.words) == "none"
    too_much = reckon(header, card(100 * MIB), wanted=accelerators.ALL)
    assert (too_much.layers, too_much.fits) == (7, False)
    assert "--gpu auto takes as many as fit" in too_much.note


def test_sizes_do_as_well_as_a_header(header: GGUFFile) -> None:
    """What a device's manifest keeps is enough."""
    known = offload.reckon(
        sizes.of(header), [card(TOTAL)], 2000, "f16", where=offload.parts(header)
    )
    assert known == reckon(header, card(TOTAL))


def test_what_llama_server_lists() -> None:
    text = """Available devices:
  Vulkan0: AMD Radeon (RADV NAVI31) (24560 MiB, 23100 MiB free)
  CUDA1: NVIDIA H200 (143771 MiB, 1 MiB free)
"""
    assert accelerators.listed(text) == (
        Gpu("Vulkan0", "AMD Radeon (RADV NAVI31)", 23100 * MIB, 24560 * MIB),
        Gpu("CUDA1", "NVIDIA H200", MIB, 143771 * MIB),
    )
    assert accelerators.listed("Available devices:\n  (none)\n") == ()
