"""This module asks a running server what it does at the moment, without waking it."""

from __future__ import annotations

import json
import re
import urllib.request
from contextlib import suppress
from dataclasses import dataclass

from plm_edge.machine import memory
from plm_edge.serve.running import RunningServer

_WITHIN = 3  # seconds to answer


@dataclass(frozen=True)
class State:
    """What a server does: `word` is busy, idle, asleep, loading or silent; `rss` its memory in
    bytes, 0 where that is not known."""

    word: str
    rss: int


def of(server: RunningServer) -> State:
    """The state of a server now."""
    return State(_word(server), 0 if server.device else memory.rss_of(server.pid))


def get(server: RunningServer, path: str) -> str:
    """The answer to a GET.

    Raises:
        OSError: there is none, or another than 200.
    """
    request = urllib.request.Request(server.url + path)
    if key := server.key:
        request.add_header("Authorization", f"Bearer {key}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_WITHIN) as answer:
        return str(answer.read().decode("utf-8", "replace"))


def _word(server: RunningServer) -> str:
    with suppress(OSError, ValueError):
        if json.loads(get(server, "/props")).get("is_sleeping"):
            return "asleep"
        if server.device:  # it has no metrics
            return "awake"
        found = re.search(r"^llamacpp:requests_processing (\d+)", get(server, "/metrics"), re.M)
        return "busy" if found and int(found[1]) else "idle"
    return "silent"
