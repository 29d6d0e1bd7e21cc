"""How long llama-server takes to load a model, as `plm-edge serve` starts it, and its memory."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

from plm_edge.serve.server import LocalServer
from plm_edge.serve.settings import Settings

MEMORY = ("VmHWM", "RssAnon", "RssFile")


def once(
    model: Path, program: Path, threads: int, ctx: int, tokens: int, load_mode: str
) -> dict[str, Any]:
    """One server: seconds until it answers, tokens a second, and bytes of its memory.

    Args:
        program: llama-server.
        load_mode: llama.cpp's name; auto leaves it to `serve`.
    """
    words = () if load_mode == "auto" else ("--load-mode", load_mode)
    settings = Settings(model, "m", ctx, threads, port=0, page=False, more=words)
    begun = time.perf_counter()
    with LocalServer.start(settings, program) as server:
        seconds = time.perf_counter() - begun
        body = {"prompt": "a", "n_predict": tokens, "temperature": 0}
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.settings.port}/completion",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            decode = json.load(answer)["timings"]["predicted_per_second"]
        status = Path(f"/proc/{server.running.pid}/status").read_text()
    found = {name: int(kib) << 10 for name, kib in re.findall(r"(\w+):\s+(\d+) kB", status)}
    memory = {name: found[name] for name in MEMORY}
    return {"load_s": seconds, "stages": {}, "decode_tps": decode, **memory}
