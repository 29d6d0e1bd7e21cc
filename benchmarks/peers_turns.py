"""What benchmarks/peers.py measures: settings by trying, then all models in turns.

Each model is tried alone: from a first setting on, one thing is changed at a time, and what is
fastest counts, for prefill and for decode by itself. Where two are as fast, the one with less
memory does. Flash attention is judged last, with many tokens cached, where it matters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import required_bytes
from benchmarks.campaign import PREFILL, say
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

PAGES_TOKENS = 32  # computed first, so that every page of the weights has been touched
SHORT = 128  # tokens of a trial's prompt, where flash attention is not judged
TRIAL_TOKENS = 12
LEAST_ROUNDS = 2  # that a slow machine takes as well
AS_FAST = 0.97  # of the fastest: no difference that a trial could tell
MEMORY_STEP = 32 << 20  # bytes: less is no reason to choose


@dataclass(frozen=True)
class Setting:
    """How a model is run."""

    flash: bool
    load_mode: str
    repack: bool
    threads: int

    def show(self) -> str:
        words = [f"flash attention {'on' if self.flash else 'off'}"]
        words += [{"none": "read into memory", "mmap": "mapped"}[self.load_mode]]
        words += ["repacked" if self.repack else "not repacked"]
        return ", ".join([*words, f"{self.threads} thread{'s' if self.threads > 1 else ''}"])


@dataclass(frozen=True)
class Trial:
    """One setting, tried.

    Attributes:
        prefill_t_s, decode_t_s: samples; empty where the engine ended, and `ended` says how.
    """

    setting: Setting
    depth: int  # tokens cached when decode began
    prefill_t_s: list[float]
    decode_t_s: list[float]
    peak_rss_bytes: int = 0
    ended: str = ""

    def speed(self, measure: str) -> float:
        """Median tokens a second of "prefill" or "decode"; 0 where it did not run."""
        samples = self.prefill_t_s if measure == "prefill" else self.decode_t_s
        return median(samples) if samples else 0.0


def best(trials: list[Trial], measure: str) -> Setting:
    """The fastest setting; of those as fast the one with least memory, then the first."""
    limit = AS_FAST * max(one.speed(measure) for one in trials)
    fast = [one for one in trials if one.speed(measure) and one.speed(measure) >= limit]
    return min(fast, key=lambda one: one.peak_rss_bytes // MEMORY_STEP).setting


@dataclass(frozen=True)
class Model:
    """A model to be measured, with its engine's libraries."""

    name: str
    engine: str  # "ours" or "stock"
    libraries: Path
    file: Path


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    middle: int  # decode is timed at an empty cache, at `middle` tokens, and up to `end`
    end: int
    decode_tokens: int  # a turn
    threads: tuple[int, ...]  # to try; the first is where the trials begin

    @property
    def long(self) -> int:
        """Tokens cached when the last `decode_tokens` begin: PLM has 4096 positions."""
        return self.end - self.decode_tokens


@dataclass
class Turns:
    """Collects trials and samples; `result` is its part of the result file."""

    models: list[Model]
    plan: Plan
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    chosen: dict[str, dict[str, Setting]] = field(default_factory=dict)  # by model and measure
    samples: list[Sample] = field(default_factory=list)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)

    def find_settings(self) -> None:
        """Tries settings, model by model."""
        base = Setting(True, "none", True, self.plan.threads[0])
        changes: dict[str, list[Any]] = {"load_mode": ["mmap"], "repack": [False]}
        changes["threads"] = list(self.plan.threads[1:])
        for model in self.models:
            say(f"{model.name}: settings")
            first = self.attempt(model, base, SHORT, SHORT)
            self.trials[model.name] = tried = [first]
            found = {"prefill": base, "decode": base}
            for name, others in changes.items():
                group = [first]
                for value in others:
                    group.append(self.attempt(model, replace(base, **{name: value}), SHORT, SHORT))
                tried += group[1:]
                for measure, setting in found.items():
                    value = getattr(best(group, measure), name)
                    found[measure] = replace(setting, **{name: value})
            group = [
                self.attempt(
                    model, replace(found["decode"], flash=flash), PREFILL, self.plan.middle
                )
                for flash in (True, False)
            ]
            tried += group
            self.chosen[model.name] = {
                measure: replace(setting, flash=best(group, measure).flash)
                for measure, setting in found.items()
            }

    def attempt(self, model: Model, setting: Setting, prompt: int, depth: int) -> Trial:
        """Times a prompt of so many tokens, and decode at a depth."""
        try:
            with self.open(model, setting) as engine:
                engine.fill(PAGES_TOKENS)
                prefill = []
                for _ in range(2 if prompt < PREFILL else 1):
                    engine.at(0)
                    prefill.append(prompt / engine.fill(prompt))
                rates = [TRIAL_TOKENS / engine.generate(depth, TRIAL_TOKENS) for _ in range(3)]
                return Trial(setting, depth, prefill, rates, engine.memory()["VmHWM"])
        except EngineEnded as error:
            lines = str(error).splitlines() or ["it said nothing"]
            asserted = [line[line.find("GGML_ASSERT") :] for line in lines if "GGML_ASSERT" in line]
            return Trial(setting, depth, [], [], 0, (asserted or lines[-1:])[0])

    def open(self, model: Model, setting: Setting) -> Engine:
        config = Config(
            model.engine, "", setting.flash, load_mode=setting.load_mode, repack=setting.repack
        )
        return Engine(model.libraries, model.file, config, setting.threads, self.plan.end)

    def measure(self, deadline: float) -> None:
        """All models in turns, each in its best setting for what is timed: prefill, then decode
        from the longest cache to the empty one.

        Args:
            deadline: of time.monotonic(); rounds are left out to keep it, but for LEAST_ROUNDS.
        """
        with ExitStack() as stack:
            engines = {
                model.name: stack.enter_context(self.open(model, self.setting(model, "prefill")))
                for model in self.models
            }
            for engine in engines.values():
                engine.fill(PREFILL)  # pages in what loading did not
            say(f"prefill {PREFILL}, in turns")
            # a third of the time: the rest is for long caches, and for decode
            self.turns(
                "prefill",
                time.monotonic() + (deadline - time.monotonic()) / 3,
                lambda round_: prefill_turns(engines, PREFILL, PREFILL, round_),
            )
            for model in self.models:
                if self.setting(model, "decode") != self.setting(model, "prefill"):
                    engines[model.name].close()
                    opened = self.open(model, self.setting(model, "decode"))
                    engines[model.name] = stack.enter_context(opened)
            say(f"caches of {self.plan.long} tokens")
            for engine in engines.values():
                engine.at(self.plan.long - WARM_TOKENS)
                engine.rows()  # counted from here on
            depths = (self.plan.long, self.plan.middle, 0)
            for place, depth in enumerate(depths):
                say(f"decode at {depth}, in turns")
                left = (deadline - time.monotonic()) / (len(depths) - place)
                self.turns(
                    f"decode at {depth}",
                    time.monotonic() + left,
                    lambda round_, depth=depth: self.decoded(engines, depth, round_),  # type: ignore[misc]
                )
                if place == 0:
                    for model in self.models:
                        self.note(model, engines[model.name])
            for model in self.models:
                self.note_bytes(model, engines[model.name])

    def setting(self, model: Model, measure: str) -> Setting:
        return self.chosen[model.name][measure]

    def turns(self, name: str, deadline: float, take: Callable[[int], list[Sample]]) -> None:
        """Rounds until the plan's number or the deadline."""
        began = time.monotonic()
        for round_ in range(self.plan.rounds):
            spent = time.monotonic() - began
            if round_ >= LEAST_ROUNDS and began + spent * (1 + 1 / round_) > deadline:
                break
            self.samples += take(round_)
            self.rounds[name] = round_ + 1

    def decoded(self, engines: dict[str, Engine], depth: int, round_: int) -> list[Sample]:
        found = decode_turns(engines, depth, self.plan.decode_tokens, 1)
        return [replace(one, round=round_) for one in found]

    def note(self, model: Model, engine: Engine) -> None:
        """At the end of the context, before anything else is asked of the process."""
        self.reports[model.name] = {
            "command": engine.call,
            "cache_bytes_per_token": engine.cache_bytes_per_token(),
            **engine.memory(),
            "log": engine.loaded["log"],
        }

    def note_bytes(self, model: Model, engine: Engine) -> None:
        """What decode of a token reads of the weights, where not all rows are read."""
        layers = engine.rows()
        zeros = zero_share(layers) or 0.0
        needed = required_bytes.weights(model.file, zeros, low_share(layers), engine.head_read)
        self.reports[model.name] |= {"zeros": round(zeros, 4), "weights_bytes_per_token": needed}

    def result(self) -> dict[str, Any]:
        return {
            "plan": asdict(self.plan) | {"prefill": PREFILL, "long": self.plan.long},
            "rounds": self.rounds,
            "models": {
                model.name: {
                    "engine": model.engine,
                    "file_bytes": model.file.stat().st_size,
                    "settings": {
                        measure: asdict(one) for measure, one in self.chosen[model.name].items()
                    },
                    "trials": [asdict(one) for one in self.trials[model.name]],
                    **self.reports[model.name],
                }
                for model in self.models
            },
            "samples": [asdict(one) for one in self.samples],
        }
