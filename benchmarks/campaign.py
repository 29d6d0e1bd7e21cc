"""What benchmarks/kernels.py measures, in which order, and what a slow machine leaves out.

Loading, timing and turns are `plm_edge.bench.worker.turns`. What is left here is this campaign's
own: which engines are compared, how ours is taken apart, and how all of it fits the minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.hot_symbols import profile
from plm_edge.bench.worker.turns import (
    WARM_TOKENS,
    Config,
    Engine,
    EngineEnded,
    Sample,
    decode_turns,
    prefill_turns,
)
from plm_edge.engine.sparsity import low_share, zero_share

PREFILL = 512  # the short prefill, and the size of a turn in the long one
# K and V types differ in ours no more than in upstream's own MLA models: there is no V to have one.
# Upstream's V stays f16, for a quantised one needs flash attention, and PLM aborts with it there.
CONFIGS = {
    "stock": Config("stock", "stock", flash=False),
    "stock, K in q8_0": Config("stock", "stock", flash=False, cache_k="q8_0"),
    "ours": Config("ours", "edge", flash=True),
    "ours, q8_0": Config("ours", "edge", flash=True, cache_k="q8_0", cache_v="q8_0"),
}
ABLATIONS = {
    "dense FFN": Config("ours", "stock", flash=True),
    "latent cache without our attention": Config("ours", "edge", flash=False),
    "latent cache alone": Config("ours", "stock", flash=False),
}
# of each engine; ours with auto maps what comes in huge pages, and stock maps always
LOAD_MODES = {"stock": ("mmap", "none"), "ours": ("auto", "mmap", "none")}


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    middle: int  # decode is timed at an empty cache, at `middle` tokens, and up to `end`
    end: int  # PLM has 4096 positions, and the last token timed is the last of them
    decode_tokens: int  # a turn
    profile_tokens: int

    @property
    def long(self) -> int:
        """Tokens cached when the last `decode_tokens` begin."""
        return self.end - self.decode_tokens

    @property
    def depths(self) -> tuple[int, int, int]:
        return 0, self.middle, self.long


@dataclass
class Campaign:
    """Collects samples and reports; `result` is its part of the result file."""

    libraries: dict[str, Path]  # by engine
    models: dict[str, Path]  # by layout
    threads: int
    plan: Plan
    bandwidth: Callable[[], float]  # GB/s, of this moment
    samples: list[Sample] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    load_mode: dict[str, str] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    zeros: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    fill_s: float = 0.0  # a long prefill, both sides

    def calibrate(self) -> None:
        """Finds each side's best way of loading, and shows which settings do not run."""
        for name in ("stock", "ours"):
            config = CONFIGS[name]
            speed, memory = {}, {}
            for mode in LOAD_MODES[name]:
                say(f"{name} loaded with {mode}")
                with self.open(replace(config, load_mode=mode)) as engine:
                    engine.fill(128)
                    rates = [16 / engine.generate(128, 16) for _ in range(3)]
                    speed[mode], memory[mode] = median(rates), engine.memory()["VmHWM"]
                self.tried.append(
                    {"config": name, "load_mode": mode, "decode_t_s": rates}
                    | {"peak_rss_bytes": memory[mode]}
                )
            # less memory, unless it costs speed
            fast = [mode for mode, rate in speed.items() if rate > 0.98 * max(speed.values())]
            self.load_mode[name] = min(fast, key=lambda mode: memory[mode])
        say("stock with flash attention")
        try:
            with self.open(replace(CONFIGS["stock"], flash=True)):
                ended = None
        except EngineEnded as error:
            lines = str(error).splitlines()
            ended = next((line for line in lines if "GGML_ASSERT" in line), lines[-1])
            ended = ended[ended.find("GGML_ASSERT") :] if "GGML_ASSERT" in ended else ended
        self.tried.append({"config": "stock, flash attention", "ended": ended})

    def compare(self, deadline: float) -> None:
        """Ours and stock: prefill, decode at three depths, both cache types, memory, profiles.
        Then parts of ours against all of it."""
        with ExitStack() as outer, ExitStack() as stack:
            ours = outer.enter_context(self.named("ours"))
            pair = {"stock": stack.enter_context(self.named("stock")), "ours": ours}
            self.prefills(pair, deadline)
            self.note_memory(pair)
            with ExitStack() as inner:
                quantised = {
                    name: inner.enter_context(self.named(name))
                    for name in ("stock, K in q8_0", "ours, q8_0")
                }
                say(f"decode at {self.plan.long}: f16 and q8_0 caches")
                self.decode(pair | quantised, self.plan.long, self.plan.rounds)
                self.note_memory(quantised)
                self.note_profile("ours, q8_0", quantised["ours, q8_0"], self.plan.long)
            for name, engine in pair.items():
                self.note_profile(name, engine, self.plan.long)
            ours.rows()  # counted from here on
            for depth in (self.plan.middle, 0):
                say(f"decode at {depth}")
                self.decode(pair, depth, self.plan.rounds)
            self.note_zeros(ours)
            for name, engine in pair.items():
                self.note_profile(name, engine, 0)
            stack.close()
            folder = Path(outer.enter_context(tempfile.TemporaryDirectory()))
            self.ablate(ours, folder, deadline)

    def prefills(self, pair: dict[str, Engine], deadline: float) -> None:
        """Long prefills in turns, as many pairs as fit; then the short ones that are missing."""
        plan = self.plan
        for engine in pair.values():
            engine.fill(PREFILL)  # pages in what loading did not
        begun, done = time.monotonic(), 0
        for round_ in range(plan.rounds):
            # after them: a fill of the two quantised ones, decode, and the ablations
            rest = 1.2 * self.fill_s + 180 + 60 * len(ABLATIONS)
            if round_ >= 2 and time.monotonic() + self.fill_s + rest > deadline:
                break
            say(f"prefill {plan.end}, pair {round_ + 1} of {plan.rounds}")
            self.samples += prefill_turns(pair, plan.end, PREFILL, round_)
            done += 1
            self.fill_s = (time.monotonic() - begun) / done
        for round_ in range(done, plan.rounds):
            self.samples += prefill_turns(pair, PREFILL, PREFILL, round_)
        if done < plan.rounds:
            self.left_out.append(
                f"{plan.rounds - done} of {plan.rounds} pairs of prefill {plan.end}"
            )
            for engine in pair.values():
                engine.at(plan.end)

    def ablate(self, whole: Engine, folder: Path, deadline: float) -> None:
        """Ours without one part or another, in turns with all of ours."""
        plan, rounds = self.plan, min(3, self.plan.rounds)
        whole.at(plan.long)
        whole.save(folder / "latent-flash")
        caches = {True: whole.saved, False: None}  # with flash attention, and without
        for number, (name, config) in enumerate(ABLATIONS.items()):
            left = (deadline - time.monotonic()) / (len(ABLATIONS) - number)
            fill = self.fill_s / 2 * (0 if caches[config.flash] else 1.3)
            fits = [depth for depth in plan.depths if 50 + fill * depth / plan.end < left]
            depth = max(fits, default=0)
            say(f"ablation: {name}, up to {depth} tokens")
            if depth != plan.long:
                self.left_out.append(f"{name} at {plan.end}")
            with self.open(config) as part:
                engines = {"ours": whole, name: part}
                part.fill(PREFILL)
                for round_ in range(2):
                    self.add(prefill_turns(engines, PREFILL, PREFILL, round_), name)
                self.add(decode_turns(engines, 0, plan.decode_tokens, rounds), name)
                part.saved = caches[config.flash]
                if depth:
                    self.add(decode_turns(engines, depth, plan.decode_tokens, rounds), name)
                if depth == plan.long and part.saved is None:
                    part.at(plan.long)
                    part.save(folder / "latent-plain")
                    caches[config.flash] = part.saved

    def add(self, samples: list[Sample], ablation: str) -> None:
        """Keeps an ablation's samples apart: "ours" in turns with it is another series."""
        renamed = {"ours": f"ours, in turns with {ablation}"}
        self.samples += [
            replace(one, config=renamed.get(one.config, one.config)) for one in samples
        ]

    def decode(self, engines: dict[str, Engine], depth: int, rounds: int) -> None:
        self.samples += decode_turns(
            engines, depth, self.plan.decode_tokens, rounds, self.bandwidth
        )

    def note_memory(self, engines: dict[str, Engine]) -> None:
        """At the end of the model's context, before anything else is asked of the process."""
        for name, engine in engines.items():
            self.reports[name] = {
                "settings": asdict(engine.config),
                "command": engine.call,
                "cache_bytes_per_token": engine.cache_bytes_per_token(),
                "memory_at": self.plan.end,
                **engine.memory(),
                "log": engine.loaded["log"],
                "system": engine.loaded["system"],
                "load_s": engine.loaded["load_s"],
            }

    def note_profile(self, name: str, engine: Engine, depth: int) -> None:
        tokens = min(self.plan.profile_tokens, self.plan.end - max(depth, WARM_TOKENS))
        self.profiles[f"{name} at {depth}"] = profile(engine, depth, tokens)

    def note_zeros(self, ours: Engine) -> None:
        """Counted by the engine while the turns at `middle` and at an empty cache were decoded."""
        layers = ours.rows()
        self.zeros = {
            "decode": [round(layer.zeros, 4) for layer in layers],
            "decode_mean": round(zero_share(layers) or 0.0, 4),
            "low_read": low_share(layers),
            "head_read": ours.head_read,
        }

    @contextmanager
    def named(self, name: str) -> Iterator[Engine]:
        with self.open(CONFIGS[name]) as engine:
            yield engine
        if name in self.reports:
            self.reports[name].setdefault("ru_maxrss_bytes", engine.peak_rss_bytes)

    def open(self, config: Config) -> Engine:
        """A loaded engine, in its side's best load mode if that is known."""
        mode = self.load_mode.get(config.engine, config.load_mode)
        return Engine(
            self.libraries[config.engine],
            self.models[config.layout],
            replace(config, load_mode=mode),
            self.threads,
            self.plan.end,
        )

    def result(self) -> dict[str, Any]:
        return {
            "plan": asdict(self.plan) | {"prefill": PREFILL, "long": self.plan.long},
            "tried": self.tried,
            "load_mode": self.load_mode,
            "left_out": self.left_out,
            "samples": [asdict(one) for one in self.samples],
            "engines": self.reports,
            "zeros": self.zeros,
            "profiles": self.profiles,
        }


def say(what: str) -> None:
    print(f"-- {time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)
