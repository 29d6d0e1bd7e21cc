"""Engines held ready in processes of their own, and timed in turns (native/bench-plm-turns.cpp).

llama-bench measures all repetitions of a setting in a row, and each process of it fills the cache
anew: two programs in turns at 4096 tokens would take most of an hour, minutes between the two sides
of a pair. Here both caches are filled once, and turns of a second or two alternate.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


class Engine:
    """One loaded model in its own process. Close it, or use it in `with`."""

    def __init__(
        self, program: Path, libraries: Path, model: Path, config: Config, threads: int, ctx: int
    ) -> None:
        """Loads the model.

        Raises:
            EngineEnded: the engine refused the model or its settings, or aborted.
        """
        options: dict[str, str | int | Path] = {
            "model": model, "ctx": ctx, "threads": threads, "fa": int(config.flash),
            "ctk": config.cache_k, "ctv": config.cache_v, "load-mode": config.load_mode,
        }  # fmt: skip
        self.command = [str(program)]
        for name, value in options.items():
            self.command += [f"--{name}", str(value)]
        # no backtrace: where gdb is installed an abort would start it
        environment = {"LD_LIBRARY_PATH": str(libraries), "GGML_NO_BACKTRACE": "1"}
        self._process = subprocess.Popen(
            self.command,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.config = config
        self.position = 0
        self.saved: tuple[Path, int] | None = None  # a written cache, and its tokens
        self.peak_rss_bytes = 0  # known after close
        self.loaded = self._answer()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def fill(self, tokens: int) -> float:
        """Prefill: appends `tokens` tokens. Returns seconds."""
        seconds = float(self._ask(f"fill {tokens}")["seconds"])
        self.position += tokens
        return seconds

    def generate(self, depth: int, tokens: int) -> float:
        """Decode: `tokens` tokens one at a time, after WARM_TOKENS untimed ones, so that the first
        timed one finds `depth` tokens cached (WARM_TOKENS at an empty cache). Returns seconds."""
        self.at(max(0, depth - WARM_TOKENS))
        seconds = float(self._ask(f"gen {WARM_TOKENS} {tokens}")["seconds"])
        self.position += WARM_TOKENS + tokens
        return seconds

    def at(self, position: int) -> None:
        """Brings the cache to `position` tokens: forgets the rest, or reads `saved`, or fills."""
        if self.saved and self.position < position <= self.saved[1]:
            file, tokens = self.saved
            self.position = tokens if self._ask(f"load {file}")["bytes"] else 0
            self.saved = self.saved if self.position else None
        if self.position > position:
            self._ask(f"trim {position}")
            self.position = position
        if self.position < position:
            self.fill(position - self.position)

    def save(self, file: Path) -> None:
        """Writes the cache to `file`, for `at`: of this engine, or of one that is given `saved`."""
        if not self._ask(f"save {file}")["bytes"]:
            raise OSError(f"{file}: the cache could not be written")
        self.saved = (file, self.position)

    def zeros(self) -> list[float]:
        """Share of neurons left at zero by squared ReLU, by layer, since this was asked last.
        Empty where the engine does not count (upstream's) or the file has no rows to skip."""
        return [1 - active / total for total, active in self._ask("counts")["layers"]]

    def memory(self) -> dict[str, int]:
        """Bytes: VmHWM (peak), VmRSS, RssAnon, RssFile."""
        return self._ask("memory")

    def cache_bytes_per_token(self) -> float:
        """Bytes of KV cache a token, over all layers, from the engine's own report."""
        found = re.search(r"size = +([\d.]+) MiB \( *(\d+) cells", self.loaded["log"])
        if found is None:
            raise ValueError(f"no size of the cache in the engine's log:\n{self.loaded['log']}")
        return float(found[1]) * (1 << 20) / int(found[2])

    def close(self) -> None:
        """Ends the process; its peak memory is known then."""
        if self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("quit\n")
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._reap()

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # _answer says why it ended
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().strip()
            self._reap()
            raise EngineEnded(said)
        return json.loads(line)

    def _reap(self) -> None:
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.peak_rss_bytes = usage.ru_maxrss * 1024  # Linux counts in KiB


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
