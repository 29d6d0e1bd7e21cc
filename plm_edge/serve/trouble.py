"""This module says why a server on this machine ended by itself."""

from __future__ import annotations

import signal
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.deploy import trouble
from plm_edge.engine.options import DEFAULT_CTX

_TAIL = 64 << 10  # bytes of a log that are read


def tail(log: Path) -> str:
    """The end of a log, as text; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def why_ended(name: str, code: int | None, log: Path) -> PlmEdgeError:
    """The error for a llama-server that ended by itself.

    Args:
        name: of its model.
        code: its exit code, negative for a signal; None if nobody knows.
        log: what it wrote.
    """
    text = tail(log)
    what = f"the server of {name} ended"
    see = f"see what it wrote: {log}"
    if line := trouble.no_memory_in(text):
        fix = f"lower --ctx (now at most {DEFAULT_CTX:,}), use --kv q8_0, or a smaller quantisation"
        return PlmEdgeError(f"{what}: no memory", line, fix, ExitCode.RESOURCES)
    port = trouble.port_not_bound_in(text)
    if port is not None:
        why = f"port {port} cannot be used: something listens there, or only root may"
        return PlmEdgeError(what, why, "take another: --port 0", ExitCode.ENVIRONMENT)
    if code == -signal.SIGKILL:
        why = "somebody killed it; when memory runs out, Linux does (see dmesg)"
        return PlmEdgeError(what, why, "close other programs, or lower --ctx", ExitCode.RESOURCES)
    if code in (0, -signal.SIGTERM, -signal.SIGINT):
        return PlmEdgeError(what, "somebody stopped it", "start it again", ExitCode.ENVIRONMENT)
    if code is not None and code < 0:
        why = f"it crashed ({signal.Signals(-code).name})"
        return PlmEdgeError(what, why, f"report it, with its log: {log}", ExitCode.INTERNAL)
    cause = trouble.cause_in(text) or _last(text)
    why = cause or ("it left no word" if code is None else f"it ended with {code}")
    return PlmEdgeError(what, why, see, ExitCode.ENVIRONMENT)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
