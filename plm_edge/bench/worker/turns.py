"""Engines held ready in processes of their own, and timed in turns (native/turns.cpp).

llama-bench measures all repetitions of a setting in a row, and each process of it fills the cache
anew: two programs in turns at 4096 tokens would take most of an hour, minutes between the two sides
of a pair. Here both caches are filled once, and turns of a second or two alternate.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.bench.worker.process import Process
from plm_edge.engine.sparsity import LayerRows

WARM_TOKENS = 2  # decoded before the clock starts: the other engine had the CPU's caches


class EngineEnded(Exception):
    """The engine's process ended by itself. Its argument is what it said last."""


@dataclass(frozen=True)
class Config:
    """How a model is run: with which engine, which file, which settings."""

    engine: str  # "ours" or "stock"
    layout: str  # "edge" or "stock"
    flash: bool
    cache_k: str = "f16"
    cache_v: str = "f16"
    load_mode: str = "mmap"
    repack: bool = True  # weights are laid out anew for the CPU's kernels, where it has such


class Engine:
    """One loaded model in its own process. Close it, or use it in `with`."""

    def __init__(
        self, libraries: Path, model: Path, config: Config, threads: int, ctx: int
    ) -> None:
        """Loads the model.

        Args:
            libraries: the folder of the engine's, ours or stock llama.cpp's.

        Raises:
            EngineEnded: the engine refused the model or its settings, or aborted.
        """
        how = {
            "model": str(model), "n_ctx": ctx, "threads": threads, "n_batch": 2048,
            "flash_attn": "on" if config.flash else "off", "cache_k": config.cache_k,
            "cache_v": config.cache_v, "load_mode": config.load_mode,
            "repack": config.repack,
        }  # fmt: skip
        self._process = Process(libraries)
        self.config = config
        self.position = 0
        self.head_read: float | None = None  # as `rows` found it
        self.saved: tuple[Path, int] | None = None  # a written cache, and its tokens
        # what it was asked for, for a result that others read: no path of this machine
        self.call = " ".join(
            f"{name}={value}" for name, value in (how | {"model": model.name}).items()
        )
        self.loaded = self._ask("open", **how)
        # only what the engine says of its cache and buffers
        said = self._process.log.decode(errors="replace").splitlines()
        self.loaded["log"] = [one for one in said if re.search("kv_cache: size|buffer size", one)]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def peak_rss_bytes(self) -> int:
        """Known after `close`."""
        return self._process.peak_rss_bytes

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def fill(self, tokens: int) -> float:
        """Prefill: appends `tokens` tokens. Returns seconds."""
        seconds = float(self._ask("fill", tokens=tokens)["seconds"])
        self.position += tokens
        return seconds

    def generate(self, depth: int, tokens: int) -> float:
        """Decode: `tokens` tokens one at a time, after WARM_TOKENS untimed ones, so that the first
        timed one finds `depth` tokens cached (WARM_TOKENS at an empty cache). Returns seconds."""
        self.at(max(0, depth - WARM_TOKENS))
        seconds = float(self._ask("generate", warm=WARM_TOKENS, tokens=tokens)["seconds"])
        self.position += WARM_TOKENS + tokens
        return seconds

    def at(self, position: int) -> None:
        """Brings the cache to `position` tokens: forgets the rest, or reads `saved`, or fills."""
        if self.saved and self.position < position <= self.saved[1]:
            file, tokens = self.saved
            self.position = tokens if self._ask("restore", file=str(file))["bytes"] else 0
            self.saved = self.saved if self.position else None
        if self.position > position:
            self._ask("trim", tokens=position)
            self.position = position
        if self.position < position:
            self.fill(position - self.position)

    def save(self, file: Path) -> None:
        """Writes the cache to `file`, for `at`: of this engine, or of one that is given `saved`."""
        if not self._ask("save", file=str(file))["bytes"]:
            raise OSError(f"{file}: the cache could not be written")
        self.saved = (file, self.position)

    def rows(self) -> list[LayerRows]:
        """Rows that were read, by layer, since this was asked last; `head_read` becomes the share
        of the output matrix's. Empty where the engine does not count (upstream's) or the file has
        no rows to skip."""
        found = self._ask("rows")
        self.head_read = found["head_read"]
        return [LayerRows(**layer) for layer in found["rows"]]

    def memory(self) -> dict[str, int]:
        """Bytes: VmHWM (peak), VmRSS, RssAnon, RssFile."""
        told = self._ask("memory")
        return {name: told[name] for name in ("VmHWM", "VmRSS", "RssAnon", "RssFile")}

    def cache_bytes_per_token(self) -> float:
        """Bytes of KV cache a token, over all layers, from the engine's own report: of several
        caches where layers with a sliding window have one of their own."""
        log = "\n".join(self.loaded["log"])
        found = re.findall(r"size = +([\d.]+) MiB \( *(\d+) cells", log)
        if not found:
            raise ValueError(f"no size of the cache in the engine's log:\n{log}")
        return sum(float(size) * (1 << 20) / int(cells) for size, cells in found)

    def close(self) -> None:
        """Ends the process; its peak memory is known then."""
        self._process.close()

    def _ask(self, what: str, **values: Any) -> Any:
        self._process.send([{"do": what, **values}])
        answer = self._process.read()
        if answer is None or answer["event"] == "error":
            self._process.close()
            said = self._process.log.decode(errors="replace").strip()[-1500:]
            why = f"{answer['what']}: {answer['why']}" if answer else ""
            raise EngineEnded("\n".join(filter(None, (said, why))))
        return answer


@dataclass
class Sample:
    """One timed turn."""

    setting: str  # "prefill" or "decode"
    config: str
    depth: int  # tokens cached when the clock started
    tokens: int
    seconds: float
    round: int
    read_gb_s: float | None = None  # read bandwidth, mean of right before and right after


def prefill_turns(engines: dict[str, Engine], tokens: int, chunk: int, round_: int) -> list[Sample]:
    """One round: each engine fills `tokens` tokens from empty, in turns of `chunk` tokens."""
    for engine in engines.values():
        engine.at(0)
    samples = []
    for start in range(0, tokens, chunk):
        for name, engine in engines.items():
            size = min(chunk, tokens - start)
            samples.append(Sample("prefill", name, start, size, engine.fill(size), round_))
    return samples


def decode_turns(
    engines: dict[str, Engine],
    depth: int,
    tokens: int,
    rounds: int,
    bandwidth: Callable[[], float] | None = None,
) -> list[Sample]:
    """`rounds` rounds: each engine decodes `tokens` tokens from `depth` cached ones on.

    Args:
        bandwidth: the read bandwidth of this moment, GB/s: asked before and after each turn.
    """
    for engine in engines.values():
        engine.at(max(0, depth - WARM_TOKENS))
    samples = []
    before = bandwidth() if bandwidth else None
    for round_ in range(rounds):
        for name, engine in engines.items():
            sample = Sample("decode", name, depth, tokens, engine.generate(depth, tokens), round_)
            if bandwidth and before:
                after = bandwidth()
                sample.read_gb_s, before = round((before + after) / 2, 2), after
            samples.append(sample)
    return samples
