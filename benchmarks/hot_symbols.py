"""Where decode spends its time: perf's samples by function, of one engine while it decodes.

`plm-edge profile` has the time by operation, on any machine and for ours alone; functions need
perf, and compare ours with stock llama.cpp's.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from plm_edge.bench.worker.turns import Engine

SHOWN = 12


def profile(engine: Engine, depth: int, tokens: int) -> dict[str, Any]:
    """Samples of the CPU's clock while `tokens` tokens are decoded from `depth` cached ones on.

    Returns:
        {"symbols": [[percent, symbol, library], …]}, the hottest first; or {"absent": why}.
    """
    perf = shutil.which("perf")
    if perf is None:
        return {"absent": "perf is not installed"}
    engine.generate(depth, 1)
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "perf.data")
        recorder = subprocess.Popen(
            [perf, "record", "-e", "cpu-clock", "-F", "999", "-o", data, "-p", str(engine.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.3)  # it attaches to all threads first
        engine.generate(depth, tokens)
        recorder.send_signal(signal.SIGINT)
        _, errors = recorder.communicate()
        shown = subprocess.run(
            [perf, "report", "-i", data, "--stdio", "--no-children", "-F", "overhead,symbol,dso"],
            capture_output=True,
            text=True,
        )
    symbols = parse(shown.stdout)
    if not symbols:
        reason = (errors.strip() or shown.stderr.strip() or "it recorded nothing").splitlines()
        return {"absent": f"perf: {reason[0]}"}
    return {"symbols": symbols[:SHOWN]}


def parse(report: str) -> list[tuple[float, str, str]]:
    """(percent, symbol, library) of the lines of `perf report --stdio`."""
    line = re.compile(r"^\s+([\d.]+)%\s+\[[^]]\]\s+(.*?)\s{2,}(\S+)\s*$", re.MULTILINE)
    return [(float(share), symbol, library) for share, symbol, library in line.findall(report)]
