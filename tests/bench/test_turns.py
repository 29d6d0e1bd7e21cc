"""Two engines that take turns: caches that are kept, trimmed, written and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.bench.worker.turns import (
    WARM_TOKENS,
    Config,
    Engine,
    EngineEnded,
    decode_turns,
    prefill_turns,
)
from plm_edge.engine import library
from plm_edge.model import gguf_file, sizes

F16 = Config("ours", "edge", flash=True)
Q8_0 = Config("ours", "edge", flash=True, cache_k="q8_0", cache_v="q8_0")


def opened(model: Path, config: Config) -> Engine:
    return Engine(library.find(), model, config, threads=1, ctx=512)


def test_two_engines_in_turns(tiny_gguf: Path, tmp_path: Path) -> None:
    with opened(tiny_gguf, F16) as first, opened(tiny_gguf, Q8_0) as second:
        pair = {"f16": first, "q8_0": second}
        assert first.call.startswith(f"model={tiny_gguf.name} n_ctx=512 threads=1 ")
        samples = prefill_turns(pair, 96, 64, 0)
        assert [(one.config, one.depth, one.tokens) for one in samples] == [
            ("f16", 0, 64), ("q8_0", 0, 64), ("f16", 64, 32), ("q8_0", 64, 32),
        ]  # fmt: skip
        first.rows()
        samples += decode_turns(pair, 40, 4, 2)
        assert first.position == second.position == 44
        assert min(one.seconds for one in samples) > 0
        shares = [layer.zeros for layer in first.rows()]
        assert len(shares) == gguf_file.read(tiny_gguf).arch_key("block_count")
        assert all(0 < share < 1 for share in shares)
        assert first.rows() == []  # since it was asked last

        first.save(tmp_path / "cache")
        first.at(0)
        first.at(44)  # read again, not computed
        assert first.generate(44, 1) > 0
        assert first.position == 44 + 1
        shape = sizes.kv_shape(gguf_file.read(tiny_gguf))
        assert shape is not None
        for engine, kv in ((first, "f16"), (second, "q8_0")):
            said = engine.cache_bytes_per_token()
            assert said == pytest.approx(shape.bytes_per_token(kv), rel=0.02)  # of two decimals
        assert first.memory()["VmHWM"] > tiny_gguf.stat().st_size
    assert first.peak_rss_bytes > tiny_gguf.stat().st_size
    assert WARM_TOKENS < 40


def test_an_engine_that_ends_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(EngineEnded, match="cannot load"):
        opened(broken, F16)
