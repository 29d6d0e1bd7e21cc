"""The link of SPA, measured: a server and a device, two processes, and a relay between them.

The relay delays each direction (testkit/relay.py). In *ping-pong* the server computes a token only
when the device has said that it has the one before; else it runs ahead.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plm_edge.base import files
from plm_edge.base.progress import NoProgress
from plm_edge.bench import meters
from plm_edge.bench.analyse import energy
from plm_edge.bench.meters.host import LocalHost
from plm_edge.bench.meters.recorder import Recorder
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.machine.memory import peak_rss
from plm_edge.spa import making, server, side, texts, wire
from plm_edge.spa import plugin as plugins
from plm_edge.spa.base import Base
from plm_edge.spa.choosing import PluginChooser
from plm_edge.spa.device import Generation
from plm_edge.spa.frame import Rows
from plm_edge.spa.here import Here
from plm_edge.spa.plugin import Plugin
from plm_edge.spa.reading import public_codec
from plm_edge.spa.remote import Remote
from plm_edge.spa.standby import Standby
from testkit.checkout import ROOT
from testkit.relay import Harm, How, Relay

ROUND_TRIPS_MS = (0, 20, 100)
RATES = (0.0, 0.02, 0.2)  # of overrides
PING_PONG = -1.0  # in place of a rate
ROUNDS = 3
KEY = "benchmark"
CTX = 512
PROMPT = "One, two, three, four, five, six, seven,"  # SmolLM2 goes on for long
# The plugin decides as it always does, and a script says otherwise: its texts do not matter.
PERSONAL, PUBLIC = "The person writes a text, and then another one.", "A text that is public."
HOWS: tuple[How, ...] = ("reset", "blackhole", "stall")


class Scripted:
    """Overrides at a share of the places, with the likeliest token that is not the base's choice
    and ends no text. The plugin is asked all the same: what that takes counts."""

    def __init__(self, rate: float, own: Plugin) -> None:
        self._rate, self._own = rate, PluginChooser(own)
        self._stops = set(own.vocabulary.stops.tolist())
        self._rng = np.random.default_rng(1)

    def choose(self, row: Rows, base: int, before: Sequence[int], position: int) -> int:
        """See `choosing.Chooser`."""
        self._own.choose(row, base, before, position)
        if self._rng.random() >= self._rate and base not in self._stops:
            return base
        others = (int(token) for token in row.ids[0])
        return next(token for token in others if token != base and token not in self._stops)


def link(model: Path, threads: int, count: int) -> dict[str, Any]:
    """Tokens a second by round trip and share of overrides, and of the base alone, in turns; joules
    a token where the machine has a meter, of server, device and relay together."""
    finding = meters.find(LocalHost())
    metered = energy.main_meters(finding)
    kinds = [(rtt, rate) for rtt in ROUND_TRIPS_MS for rate in (*RATES, PING_PONG)]
    points: dict[tuple[int, float], list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with (
        _given(model, threads) as given,
        _serving("server", model, given, threads) as ahead,
        _serving("lockstep", model, given, threads) as in_step,
        Recorder(finding.meters) as recorder,
    ):
        for _ in range(ROUNDS):
            for rtt, rate in kinds:
                port = in_step if rate == PING_PONG else ahead
                # right before it, since the machine's own speed changes
                direct = _direct(model, threads, count) if rate == 0 else None
                with _one_cpu(), Relay(port, rtt / 2000) as relay:
                    found = _device(relay.port, given.plugin, rate, count)
                recorder.sample()
                window = tuple(found.pop("window"))
                used = energy.of_point(recorder, metered, window, count - 1, None).energy
                joules = used.joules_a_token if used else None
                points[rtt, rate].append(found | {"direct_tps": direct, "joules_a_token": joules})
    return {
        "tokens": count,
        "device_cpus": 1,
        "meters": metered,
        "points": [
            {"rtt_ms": rtt, "rate": max(rate, 0.0), "ping_pong": rate == PING_PONG, "rounds": found}
            for (rtt, rate), found in points.items()
        ],
    }  # fmt: skip


def loss(model: Path, threads: int, count: int, places: int = 4) -> dict[str, Any]:
    """Seconds without a token where a link is harmed, by how, and by what goes on."""
    rng = np.random.default_rng(1)
    found: dict[str, dict[str, list[float]]] = {}
    with _given(model, threads) as given, _serving("server", model, given, threads) as port:
        for how in HOWS:
            kinds: dict[str, list[float]] = {"server": [], "here": []}
            for place in range(places):
                after = int(1500 + 868 * count * (place + rng.random()) / (places + 1))
                for kind, gaps in kinds.items():
                    with Relay(port, 0.01) as relay:
                        relay.harm = Harm(how, after, kind == "here", held_s=10.0)
                        gaps.append(_longest(relay.port, model, given.own, kind, threads, count))
            found[how] = kinds
        opening = _openings(port, model, given.own, threads)
    return {"seconds": found, "opening": opening, "tokens": count, "rtt_ms": 20}


def _openings(port: int, model: Path, own: Plugin, threads: int) -> dict[str, dict[str, float]]:
    """The longest time until the first token where a link is harmed before there is one, by how
    and by what goes on: at the first byte, in the handshake and in the answer to the prompt. Not
    harmed: none."""
    found: dict[str, dict[str, float]] = {"none": {}}
    for kind in ("server", "here"):
        with Relay(port, 0.01) as relay:
            found["none"][kind] = _first(relay.port, model, own, kind, threads)
    for how in HOWS:
        found[how] = {}
        for kind in ("server", "here"):
            times = []
            for after in (1, 100, 250):
                with Relay(port, 0.01) as relay:
                    relay.harm = Harm(how, after, kind == "here", held_s=10.0)
                    times.append(_first(relay.port, model, own, kind, threads))
                    assert relay.harm is None
            found[how][kind] = max(times)
    return found


def _first(port: int, model: Path, own: Plugin, kind: str, threads: int) -> float:
    """Seconds until a text has its first token; the base here is loaded meanwhile."""
    made = _text(port, model, own, kind, threads)
    started = time.perf_counter()
    next(made.steps(PROMPT, 8))
    found = time.perf_counter() - started
    made.close()
    return found


def _longest(port: int, model: Path, own: Plugin, kind: str, threads: int, count: int) -> float:
    """The longest time between two tokens of a text."""
    made = _text(port, model, own, kind, threads)
    times = [time.perf_counter() for _ in made.steps(PROMPT, count)]
    made.close()
    assert made.made == count
    assert made.resumed or made.moved is not None
    return max(np.diff(times))


def _text(port: int, model: Path, own: Plugin, kind: str, threads: int) -> Generation:
    """A text; with `here` the base is here, too."""

    def load() -> Here:
        return Here(model, own, Options(threads=threads, n_ctx=CTX), 0.0, 0)

    standby = Standby(load) if kind == "here" else None
    source = _remote(port, own, hasty=standby is not None)
    return Generation(source, Scripted(0.1, own), own.vocabulary, fallback=standby)


def device(port: int, plugin: Path, rate: float, count: int) -> dict[str, Any]:
    """What one text takes a device, without its first token."""
    if rate == PING_PONG:
        wire.CREDIT_EVERY = 1
    own = plugins.read(plugin)
    source = _remote(port, own)
    made = Generation(source, Scripted(max(rate, 0.0), own), own.vocabulary)
    steps = made.steps(PROMPT, count)
    next(steps)
    times, before = [time.monotonic()], resource.getrusage(resource.RUSAGE_SELF)
    times += [time.monotonic() for _ in steps]
    after = resource.getrusage(resource.RUSAGE_SELF)
    made.close()
    assert made.made == count
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "tps": (count - 1) / (times[-1] - times[0]), "longest_s": float(max(np.diff(times))),
        "overrides": made.overrides, "resumed": made.resumed, "cpu_s_a_token": used / (count - 1),
        "rss_mib": peak_rss() / 2**20, "rtt_s": source.rtt_s, "prompt": made.first,
        "bytes_down_a_token": source.down / count, "bytes_up": source.up,
        "window": [times[0], times[-1]],
    }  # fmt: skip


def lockstep() -> None:
    """Serve as the command does, but let no text run ahead: what the command line says else."""
    from plm_edge.cli import main

    # With credit after every token, the second token before it is the last one allowed.
    wire.CREDIT_EVERY, server.WINDOWS = 0, (2, 2)
    sys.exit(main(sys.argv[2:]))


def _remote(port: int, own: Plugin, *, hasty: bool = False) -> Remote:
    return Remote(f"ws://127.0.0.1:{port}", KEY, None, own, hasty=hasty)


@dataclass(frozen=True)
class _Given:
    """What server and device are given: a key, a codec, and a plugin, also as a file."""

    own: Plugin
    plugin: Path
    codec: Path
    key: Path


@contextmanager
def _given(model: Path, threads: int) -> Iterator[_Given]:
    """A codec of little text, and a plugin that was not trained: sizes and times are the same."""
    engine, bars = Options(threads=threads), making.Bars(NoProgress(), NoProgress())
    with tempfile.TemporaryDirectory() as folder:
        plugin, codec, key = (Path(folder) / name for name in ("plugin.gguf", "codec.gguf", "key"))
        reader = Base(model, None, replace(engine, n_ctx=CTX))
        made = public_codec(reader, [texts.public()[0][:2000]], NoProgress())
        reader.close()
        made.write(codec, files.sha256(model))
        given = making.read_texts(model, [PERSONAL], codec, engine, bars, public=[PUBLIC])
        weights = side.initial(made.n_states, made.width, made.bases.shape[2], 0)
        own = making.assemble(given, weights)
        own.write(plugin)
        files.write_text(key, KEY + "\n", files.PRIVATE)
        yield _Given(own, plugin, codec, key)


@contextmanager
def _serving(how: str, model: Path, given: _Given, threads: int) -> Iterator[int]:
    begin = ["plm_edge"] if how == "server" else ["benchmarks.spa", "lockstep"]
    command = [sys.executable, "-m", *begin, "spa", "serve", "--base", str(model), "--port", "0",
               "--plain", "--key-file", str(given.key), "--codec", str(given.codec), "--texts",
               "1", "--ctx", str(CTX), "--threads", str(threads), "--quiet"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield int(running.stdout.readline().rpartition(":")[2])
        finally:
            running.terminate()


def _device(port: int, plugin: Path, rate: float, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.spa", "device", str(port), str(plugin), str(rate),
               str(count)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _one_cpu() -> Iterator[None]:
    """Relay and device, which stand for another machine, have one CPU of this one, and the server
    has all: its engine finds one that they do not use. Does nothing where there is one, or where
    the system does not bind threads to CPUs."""
    all_of_them = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(all_of_them) < 2:
        yield
        return
    os.sched_setaffinity(0, {max(all_of_them)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def _direct(model: Path, threads: int, count: int) -> float:
    """Tokens a second of the base alone: no states, no link."""
    with Session.open(model, Options(threads=threads, n_ctx=CTX)) as session:
        session.context.append(session.tokenize(PROMPT))
        times = []
        for _ in range(count):
            session.context.append([int(np.argmax(session.context.row_logits()))])
            times.append(time.perf_counter())
    return 1 / statistics.mean(np.diff(times))
