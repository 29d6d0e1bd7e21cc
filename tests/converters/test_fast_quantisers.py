"""Our quantisers against ggml's, bit for bit, in every width that this CPU has."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Q

from plm_edge.converters.tensors import Bytes, Floats
from plm_edge.converters.write.quantize import Quantizer

TYPES = (Q.Q2_K, Q.Q4_K, Q.Q5_K, Q.Q6_K)
NEEDS = {4: set[str](), 8: {"avx2"}, 16: {"avx512f", "avx512bw", "avx512dq", "avx512vl"}}
SUPER = 256


def cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()


def widths() -> list[int]:
    """Those that this CPU must have, so that none can be missing unseen."""
    if platform.machine() in ("aarch64", "arm64"):
        return [4]
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    return [lanes for lanes, needs in NEEDS.items() if needs <= cpu_flags()]


def normal(count: int, seed: int, scale: float = 0.02) -> Floats:
    return (np.random.default_rng(seed).standard_normal(count) * scale).astype(np.float32)


def mixed(count: int, run: int) -> Floats:
    """Runs of `run` values, each odd in another way: zeros, constants, one sign, the smallest and
    the largest floats, outliers, values of all sizes, whole numbers, neighbours."""
    rng = np.random.default_rng(run)
    values = normal(count, run).reshape(-1, run)
    for row, kind in enumerate(rng.integers(0, 16, len(values))):
        piece = values[row]
        match kind:
            case 0:
                piece[:] = 0
            case 1:
                piece[:] = rng.standard_normal()
            case 2:
                piece[:] = np.abs(piece)
            case 3:
                piece[:] = -np.abs(piece)
            case 4:
                piece *= np.float32(1e-40)
            case 5:
                piece *= np.float32(1e30)
            case 6:
                piece[rng.integers(run)] = 100
            case 7:
                piece[:] = np.exp(rng.standard_normal(run) * 8) * np.sign(piece)
            case 8:
                piece[:] = np.round(piece * 100)
            case 9:
                piece[:] = 1 + np.arange(run) * np.float32(1.2e-7)
            case 10:
                piece[:] = -0.0
            case 11:
                piece *= np.float32(1e-15 / 0.02)
            case _:
                pass
    return values.reshape(-1)


DATA = {
    "normal": normal(64 * SUPER, 1),
    "one block": normal(SUPER, 2),
    "an odd number of blocks": normal(7 * SUPER, 3),
    "like bf16": (normal(64 * SUPER, 4).view(np.uint32) & 0xFFFF0000).view(np.float32),
    "no negative": np.abs(normal(64 * SUPER, 5)),
    "no positive": -np.abs(normal(64 * SUPER, 6)),
    "heavy tails": normal(64 * SUPER, 7) ** 3,
    "whole numbers": np.round(normal(64 * SUPER, 8, 5)),
    "large": normal(64 * SUPER, 9, 1e6),
    "huge": normal(64 * SUPER, 10, 7e37),
    "small": normal(64 * SUPER, 11, 1e-20),
    "denormal": normal(64 * SUPER, 12, 1e-43),
    "around the threshold of nothing": normal(64 * SUPER, 13, 1e-15),
    "zeros": np.zeros(4 * SUPER, np.float32),
    "ones": np.ones(4 * SUPER, np.float32),
    "mixed by 8": mixed(256 * SUPER, 8),
    "mixed by 16": mixed(256 * SUPER, 16),
    "mixed by 32": mixed(256 * SUPER, 32),
    "mixed by 256": mixed(256 * SUPER, SUPER),
}


def references(quantizer: Quantizer, type_: Q, values: Floats) -> Bytes:
    """By ggml's own: an importance matrix of none makes `encode` take the fast way, so past it."""
    out = np.empty(_size(type_, values), np.uint8)
    quantizer._chunk(
        *(type_, values.ctypes.data, out.ctypes.data, 0, values.size // SUPER, SUPER, None)
    )
    return out


def _size(type_: Q, values: Floats) -> int:
    block, size = GGML_QUANT_SIZES[type_]
    return values.size // block * size


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("type_", TYPES, ids=lambda t: t.name)
def test_the_same_bits_in_every_width(quantizer: Quantizer, type_: Q, name: str) -> None:
    values = DATA[name]
    assert np.isfinite(values).all()
    expected = references(quantizer, type_, values)
    for lanes in (*widths(), 0):
        found = np.full(expected.size, 0xA5, np.uint8)
        done = quantizer.encode_fast(type_, values, found, lanes)
        assert done == (lanes != 0 or bool(widths()))
        wrong = int((found != expected).sum()) if done else 0
        assert not wrong, f"{lanes} lanes: {wrong} bytes"


def test_the_data_tell_wrong_from_right(quantizer: Quantizer) -> None:
    """Each value off by at most a millionth, and the bits differ: the comparison above can fail."""
    values = normal(1024 * SUPER, 1)
    noise = np.random.default_rng(2).uniform(-1e-6, 1e-6, values.size)
    nudged = (values * (1 + noise)).astype(np.float32)
    for type_ in TYPES:
        assert (references(quantizer, type_, values) != references(quantizer, type_, nudged)).any()


def test_other_types_and_widths_are_left_to_ggml(quantizer: Quantizer) -> None:
    values = DATA["one block"]
    for type_, lanes in ((Q.IQ4_XS, 0), (Q.Q8_0, 0), (Q.Q4_K, 5), (Q.Q4_K, 32)):
        out = np.full(_size(type_, values), 0xA5, np.uint8)
        assert not quantizer.encode_fast(type_, values, out, lanes)
        assert (out == 0xA5).all()


def test_encode_takes_the_fast_way_unless_there_are_weights(
    quantizer: Quantizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = DATA["normal"]
    out = np.empty(_size(Q.Q4_K, values), np.uint8)
    calls: list[object] = []
    real = quantizer._chunk

    def chunk(*arguments: Any) -> int:
        calls.append(arguments)
        return int(real(*arguments))

    monkeypatch.setattr(quantizer, "_chunk", chunk)
    assert quantizer.encode(Q.Q4_K, values, SUPER, out)
    assert len(calls) == (0 if widths() else 1)
    assert (out == references(quantizer, Q.Q4_K, values)).all()
    calls.clear()
    assert quantizer.encode(Q.Q4_K, values, SUPER, out, np.ones(SUPER, np.float32))
    assert len(calls) == 1
