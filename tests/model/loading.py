"""Loads models one after the other, each in a process of its own, and says how each ended.

    python -m tests.model.loading FILE ...

prints a line of JSON a file: {"file", "end"}, where "end" is "answered", the three lines of a
PlmEdgeError, or what else happened: an exception, a signal, or too long. The engine's libraries are
loaded once and the process is split for each file, which takes a tenth of starting anew.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine import library
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request

TEXT = "Hé <|end|> \n b"
SECONDS = 60
ADDRESS_SPACE = 4 << 30  # a file that asks for more is refused by the allocator, not by the machine


def answer(path: Path) -> str:
    """Load the model, compute a prompt's tokens and two more."""
    try:
        with Session.open(path, Options(n_ctx=256, threads=1)) as session:
            generator = LocalGenerator(session)
            for raw in (False, True):
                encoded = generator.encode(TEXT, raw=raw)
                generator.generate(Request(encoded.tokens or [0], n_predict=2)).whole()
    except PlmEdgeError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "answered"


def ended(path: Path) -> str:
    """How `answer` ended in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(writer, answer(path).encode("utf-8", "replace")[:60_000])
        os._exit(0)
    os.close(writer)
    until = time.monotonic() + SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "too long"
        time.sleep(0.002)
    with os.fdopen(reader, "rb") as said:
        text = said.read().decode(errors="replace")
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else text


if __name__ == "__main__":
    os.environ["GGML_NO_BACKTRACE"] = "1"
    library.load()
    for name in sys.argv[1:]:
        print(json.dumps({"file": name, "end": ended(Path(name))}), flush=True)
