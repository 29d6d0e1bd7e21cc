"""The steps of benchmarks/gpu_check.py: each asks other programs, and keeps what they said.

A step that the minutes did not reach gives None.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from plm_edge.bench.worker.client import PROGRAM, encode
from plm_edge.engine.library import LIB_DIR_VARIABLE
from plm_edge.engine.log import read_log

PROMPT = "def fibonacci(n):"
LEAST_S = 5.0  # a step with less time left is not begun
# over the latent cache, and as prompts are computed
OPERATIONS = (("MUL_MAT_SPARSE_T", None), ("FLASH_ATTN_EXT", r"hsk=576|hsk=192,hsv=128"))
OPERATIONS_S = 90.0  # of each at most: the CPU computes what it compares with
TYPES = ("q4_K", "q6_K", "q8_0")
ZEROS = (0.0, 0.5, 0.9, 0.95)
CONTEXT = "constructing llama_context"  # in the engine's log, where one begins
NO_GRAPHS = {"GGML_CUDA_DISABLE_GRAPHS": "1"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        prompts, tokens, depths: of llama-bench, in tokens.
        repeats: of llama-bench.
        greedy: tokens that are compared.
        n_ff, n_embd: of the standalone product.
        matrices: that it takes in turns, so that none is still in a cache.
        rounds: of it.
        budget: seconds of a point of `plm-edge bench`.
        workload: of `plm-edge bench`.
    """

    prompts: tuple[int, ...] = (512, 2048)
    tokens: int = 128
    depths: tuple[int, ...] = (0, 4096, 16384)
    repeats: int = 3
    greedy: int = 64
    n_ff: int = 8192
    n_embd: int = 2048
    matrices: int = 24
    rounds: int = 20
    budget: float = 2.0
    workload: str = "quick"


SMALL = Size((16,), 4, (0, 32), 1, 8, 512, 256, 2, 2, 0.1, "smoke")  # a dry run


@dataclass(frozen=True)
class Clock:
    """The time that is left of the minutes that were given."""

    ends: float

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def run(
        self,
        command: Sequence[str],
        stdin: bytes | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
        most: float = math.inf,
    ) -> subprocess.CompletedProcess[str] | None:
        """Runs a command with its output caught; None if the time did not suffice, which is what
        is left, or `most` seconds."""
        if self.left() < LEAST_S:
            return None
        try:
            return subprocess.run(
                [*command],
                env={**os.environ, **variables},
                input=None if stdin is None else stdin.decode(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=min(self.left(), most),
            )
        except subprocess.TimeoutExpired:
            return None


@dataclass(frozen=True)
class Bench:
    """What all steps have in common.

    Attributes:
        programs: a folder with the programs of an engine with the GPU's backend, and its libraries.
        backend: the device, as ggml counts it: CUDA0.
        size: how much.
    """

    clock: Clock
    programs: Path
    backend: str = "CUDA0"
    size: Size = field(default_factory=Size)

    def tool(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str] | None:
        """plm-edge with this engine."""
        variables[LIB_DIR_VARIABLE] = str(self.programs)
        return self.clock.run([sys.executable, "-m", *arguments], variables=variables)


def operations(bench: Bench) -> dict[str, Any]:
    """test-backend-ops of our operation, and of attention over the latent cache: how many cases,
    and which failed."""
    return {name: _operation(bench, name, filtered) for name, filtered in OPERATIONS}


def _operation(bench: Bench, name: str, filtered: str | None) -> dict[str, Any] | None:
    more = ("-p", filtered) if filtered else ()
    command = [str(bench.programs / "test-backend-ops"), "test", "-o", name, "-b", bench.backend]
    done = bench.clock.run([*command, *more], most=OPERATIONS_S)
    if done is None:
        return None
    failed = [line for line in _plain(done.stdout) if "FAIL" in line]
    return {"exit": done.returncode, "cases": good_cases(done.stdout), "failed": failed[:20]}


def good_cases(text: str) -> int:
    """How many cases are good in what test-backend-ops prints: OP(…): OK. What else ends so is the
    verdict on all of them."""
    return sum(line.endswith("): OK") for line in _plain(text))


def _plain(text: str) -> list[str]:
    return [line.strip() for line in _COLOUR.sub("", text).splitlines()]


def products(bench: Bench) -> dict[str, Any]:
    """Seconds of the down projection, sparse and dense, by type, tokens and share of zeros."""
    size = bench.size
    found: dict[str, Any] = {}
    for kind in TYPES:
        for tokens in (1, 8):
            request = {
                "do": "sparse", "device": bench.backend, "type": kind, "tokens": tokens,
                "n_ff": size.n_ff, "n_embd": size.n_embd, "matrices": size.matrices,
                "rounds": size.rounds, "zeros": ZEROS,
            }  # fmt: skip
            done = bench.clock.run([str(bench.programs / PROGRAM)], encode([request]))
            found[f"{kind} x{tokens}"] = None if done is None else _said(done)
    return found


def _said(done: subprocess.CompletedProcess[str]) -> Any:
    """The last line of a program that writes lines of JSON; its complaint where it failed."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else done.stderr[-2000:]


def answers(bench: Bench, model: Path) -> dict[str, Any]:
    """The greedy tokens of each way to compute: on the CPU, three times on the GPU, and there
    without CUDA graphs; and which of them are the same."""
    ways: dict[str, tuple[str, dict[str, str]]] = {
        "cpu": ("off", {}),
        **{f"gpu {n}": ("all", {}) for n in (1, 2, 3)},
        "gpu without graphs": ("all", NO_GRAPHS),
    }
    found: dict[str, Any] = {}
    for name, (gpu, variables) in ways.items():
        done = bench.tool(
            *("plm_edge", "run", str(model), "--prompt", PROMPT, "--json", "--gpu", gpu),
            *("-n", str(bench.size.greedy), "--temp", "0", "--no-prompt-cache"),
            **variables,
        )
        found[name] = None if done is None else _tokens(done)
    on_gpu = [tokens for name, tokens in found.items() if name != "cpu"]
    known = all(isinstance(tokens, list) for tokens in found.values())
    same = known and all(tokens == on_gpu[0] for tokens in on_gpu)
    return {
        "tokens": found,
        "repeats_are_the_same": same if known else None,
        "as_on_the_cpu": _common(found["cpu"], on_gpu[0]) if known else None,
    }


def _tokens(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)["tokens"] if done.returncode == 0 else done.stderr[-2000:]


def _common(ours: list[int], other: list[int]) -> int:
    """How many tokens are the same before the first that is not."""
    pairs = zip(ours, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(other)))


def logits(bench: Bench, model: Path) -> dict[str, Any]:
    """Logits of a model whose neurons are above what f16 holds: finite, and the CPU's tokens."""
    found: dict[str, Any] = {}
    for name in ("off", "all"):
        done = bench.tool("benchmarks.gpu_logits", str(model), "--gpu", name)
        found["cpu" if name == "off" else "gpu"] = None if done is None else _said(done)
    return found


def tool(bench: Bench, model: Path) -> Any:
    """What `plm-edge bench` says: memory of the GPU, splits, zeros, energy by the board's meter."""
    size = bench.size
    done = bench.tool(
        *("plm_edge", "bench", str(model), "--gpu", "all", "--json", "--no-history"),
        *("--workload", size.workload, "--budget", str(size.budget), "--quiet"),
    )
    if done is None:
        return None
    if done.returncode:
        return done.stderr[-2000:]
    said = json.loads(done.stdout)
    return {
        "offload": said.get("offload"),
        "meters": said["power"]["counted"],
        "points": {one["name"]: _point(one) for one in said["points"] if one.get("tps")},
    }


def _point(point: dict[str, Any]) -> dict[str, Any]:
    energy = (point.get("power") or {}).get("energy")
    return {
        "tps": point["tps"]["median"],
        "memory": point["memory"],
        "joules_a_token": energy and energy["joules_a_token"],
    }


def speeds(bench: Bench, models: dict[str, Path], stock: Path | None) -> list[dict[str, Any]]:
    """llama-bench's results: a call for each depth, cache and file, in this order, so that what the
    minutes do not reach lacks for all files alike.

    Args:
        models: by name; "stock" is the one that stock llama.cpp reads.
        stock: a folder with stock llama.cpp's llama-bench; None: there is none.
    """
    found: list[dict[str, Any]] = []
    for depth in bench.size.depths:
        for kept in ("f16", "q8_0"):
            for name, path in models.items():
                folder, flash, value = bench.programs, "1", kept
                found.append(_speed(bench, name, folder, path, depth, (kept, value, flash)))
            if stock is not None:
                # flash attention aborts there with a PLM, and without it V stays f16
                how = (kept, "f16", "0")
                path = models["stock"]
                found.append(_speed(bench, "stock llama.cpp", stock, path, depth, how))
    return found


def _speed(
    bench: Bench, name: str, folder: Path, model: Path, depth: int, how: tuple[str, str, str]
) -> dict[str, Any]:
    size, (key, value, flash) = bench.size, how
    done = bench.clock.run(
        [
            *(str(folder / "llama-bench"), "-m", str(model), "-ngl", "99", "-dev", bench.backend),
            *("-p", ",".join(map(str, size.prompts)), "-n", str(size.tokens), "-d", str(depth)),
            *("-ctk", key, "-ctv", value, "-fa", flash, "-r", str(size.repeats), "-o", "json"),
            "-v",
        ]
    )
    made: dict[str, Any] = {"file": name, "depth": depth, "cache": key, "results": None}
    if done is None:
        return made
    if done.returncode:
        return made | {"failed": done.stderr[-2000:]}
    whole = read_log(done.stderr)
    log = read_log(done.stderr[done.stderr.rfind(CONTEXT) :])  # the last of several
    memory = {
        "weights": whole.weight_bytes(), "transposed": whole.copies_by_buffer(),
        "kv": log.kv_by_buffer(), "compute": log.compute_by_buffer(),
    }  # fmt: skip
    results = [
        {"n_prompt": one["n_prompt"], "n_gen": one["n_gen"], "t_s": one["samples_ts"]}
        for one in json.loads(done.stdout)
    ]
    return made | {"results": results, "memory": memory, "splits": log.splits()}
