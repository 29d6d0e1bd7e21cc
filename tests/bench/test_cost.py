"""The roofline's arithmetic, against figures counted by hand from the model's own sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.bench.analyse import bounds, cost
from plm_edge.bench.result.shape import Capability, Point
from plm_edge.bench.statistics import summarise
from plm_edge.converters.head.form import n_columns
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.engine.sparsity import low_share, zero_share
from plm_edge.model import gguf_file
from testkit.checkout import ROOT


def test_tiny_plm_by_hand(tiny_gguf: Path) -> None:
    header = gguf_file.read(tiny_gguf)
    made = cost.of(header, "f16", sparse=True)
    layers, embd, ff, heads, lora, rope = 6, 256, 1024, 4, 256, 32
    attention = embd * (heads * 96 + lora + rope) + lora * heads * 128 + heads * 64 * embd
    norms = layers * (2 * embd + lora) + embd
    assert made.params == 4096 * embd + layers * (attention + 2 * embd * ff) + norms
    assert made.down_params == layers * embd * ff
    matrices = made.params - norms
    assert sum(one.n for one in made.products if not one.within) == matrices
    by_kernel = {one.kernels[0]: one for one in made.products}
    assert by_kernel["rows q4_K"].n == made.down_params
    assert by_kernel["upper q4_K"].n == by_kernel["lower q4_K"].n == made.down_params
    # of attn_kv_b a half makes keys, which the query meets; tiny-plm's heads have 64 of each
    assert by_kernel["transposed q5_K"].n == by_kernel["plain q5_K"].n == layers * lora * heads * 64
    assert made.left_out(by_kernel["rows q4_K"], 0.9) == 0.9
    assert made.left_out(by_kernel["lower q4_K"], 0.9) == cost.low_skipped(0.9)
    assert made.left_out(by_kernel["plain q5_K"], 0.9) == 0
    assert made.nodes == 138  # as `plm-edge profile` counts them
    assert made.kv_bytes == layers * (lora + rope) * 2
    assert made.attention_products == layers * heads * (2 * lora + rope)
    assert made.weight_bytes == header.tensor_bytes  # tied: the embedding is read as the output
    assert made.low_bytes == made.down_bytes * 4 / 9  # W_up is as large as W_down, both in q4_K
    assert made.decode_bytes(0, 1.0) == made.weight_bytes - made.down_bytes - made.low_bytes
    assert made.decode_bytes(0, 0.0) == made.weight_bytes
    assert made.decode_bytes(100, None) == made.weight_bytes + 100 * made.kv_bytes


def test_without_the_kernel_no_row_is_skipped(tiny_gguf: Path) -> None:
    made = cost.of(gguf_file.read(tiny_gguf), "f16", sparse=False)
    assert made.decode_bytes(0, 0.9) == made.weight_bytes


def test_bounds_are_shares_of_the_machine(tiny_gguf: Path) -> None:
    price = cost.of(gguf_file.read(tiny_gguf), "f16", sparse=True)
    point = Point(
        name="tg10 @ d95", kind="decode", n_tokens=10, depth=95, n_seq=1, skipped=None, zeros=0.5,
        seconds=summarise([1.0]),
    )  # fmt: skip
    machine = Capability(
        threads=1, read_bytes_s=1e8, read_samples=[], read_how="", flops=1e9, flops_samples=[],
        flops_how="",
    )  # fmt: skip
    found = bounds.of_point(point, price, machine)
    assert found.bytes_a_step == price.decode_bytes(100, 0.5)
    assert found.bandwidth_share == pytest.approx(10 * found.bytes_a_step / 1e8)
    assert found.compute_share == pytest.approx(10 * price.decode_flops(100, 0.5) / 1e9)
    assert found.bound_by == "memory"


def test_the_capability_is_measured_in_a_process_of_its_own() -> None:
    from plm_edge.bench import capability

    found = capability.measure(1)
    assert found.read_bytes_s == max(found.read_samples) > 0
    assert found.flops == max(found.flops_samples) > 0


@pytest.mark.slow
def test_the_estimate_of_lower_bits_is_near_the_engines_count(tiny_gguf: Path) -> None:
    text = (ROOT / "plm_edge/engine/context.py").read_text(encoding="utf-8")
    with Session.open(tiny_gguf, Options(n_ctx=512, threads=1)) as session:
        session.rows.reset()
        for token in session.tokenize(text)[:200]:
            session.context.append([token])
        layers = session.rows.read()
    zeros, read = zero_share(layers), low_share(layers)
    assert zeros is not None
    assert 1 - cost.low_skipped(zeros) == pytest.approx(read, rel=0.2)


def test_a_coarse_output_matrix(tiny_gguf: Path, tmp_path: Path) -> None:
    from plm_edge.quality.calibration import calibrate

    out = tmp_path / "coarse.gguf"
    words = (ROOT / "plm_edge/engine/context.py").read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "cache"))
        calibrate(tiny_gguf, words, out)
    plain, header = gguf_file.read(tiny_gguf), gguf_file.read(out)
    before, made = (cost.of(one, "f16", sparse=True) for one in (plain, header))
    coarse = header.tensor_bytes - plain.tensor_bytes
    [matrix] = [t.n_bytes for t in plain.tensors if t.name == "token_embd.weight"]
    assert (made.params, made.head_bytes) == (before.params, matrix)
    by_kernel = {one.kernels[0]: one for one in made.products}
    logits, width = 4096, 256
    assert by_kernel["codes 2 bits"].n == logits * n_columns(width)
    [exact] = [one for one in made.products if one.skips == "head"]
    assert exact.kernels == ("plain q5_K", "q5_K")
    assert (exact.n, made.left_out(exact, 0.9)) == (logits * width, cost.HEAD_UNREAD)
    assert by_kernel["q8_0"].n == width * width  # into the codes' basis
    saved = before.decode_bytes(0, 0.9) - made.decode_bytes(0, 0.9)
    assert saved == pytest.approx(matrix * cost.HEAD_UNREAD - coarse)
