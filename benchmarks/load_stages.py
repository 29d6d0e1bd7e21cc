"""Opens a session once, in this process, and prints how long each stage took: a line of JSON.

    python -m benchmarks.load_stages MODEL [--tokens 16] [--started SECONDS]

`benchmarks/load.py` starts it. --started is when, by time.monotonic; what passed until then is the
start of Python and its imports.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plm_edge.engine import library, session
from plm_edge.engine.options import Options
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.model import gguf_file, loadable

# what stands for a stage: it is timed wherever the session calls it
STAGES: dict[str, tuple[Any, str]] = {
    "header": (gguf_file, "read"),
    "check": (loadable, "check"),
    "engine": (library, "load"),
    "model": (session, "Model"),
    "context": (session, "Context"),
}


def timed(into: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose seconds are added up."""

    def call(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            into[name] = into.get(name, 0.0) + time.perf_counter() - started

    call.__dict__.update(getattr(function, "__dict__", {}))
    for name_ in ("cache_info", "cache_clear"):
        if hasattr(function, name_):
            setattr(call, name_, getattr(function, name_))
    return call


def measure(model: Path, tokens: int) -> dict[str, Any]:
    """Seconds of each stage and of all, tokens a second, and what memory the process took."""
    stages: dict[str, float] = {}
    for name, (module, function) in STAGES.items():
        setattr(module, function, timed(stages, name, getattr(module, function)))
    begun = time.perf_counter()
    with session.Session.open(model, Options(n_ctx=1024)) as opened:
        seconds = time.perf_counter() - begun
        request = Request(opened.tokenize("a"), tokens, Sampling(temp=0))
        generation = LocalGenerator(opened).generate(request)
        generation.whole()
        decode = generation.stats.decode_tps
        memory = _memory()
    return {"load_s": seconds, "stages": stages, "decode_tps": decode, **memory}


def _memory() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    names = ("VmHWM", "RssAnon", "RssFile")
    return {name: int(found[name].split()[0]) * 1024 for name in names}


def main() -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--started", type=float)
    arguments = parser.parse_args()
    found = measure(arguments.model, arguments.tokens)
    if arguments.started is not None:
        found["imports_s"] = begun - arguments.started
    print(json.dumps(found))


if __name__ == "__main__":
    main()
