"""Eight streams at once: no error, no token lost or mixed up, and memory that stays flat."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serve.conftest import Serve
from tests.serve.http import Http

pytestmark = pytest.mark.slow
STREAMS = 8
PROMPTS = [
    "def add(a, b):", "import os\n\n", "class Node:\n", "for i in range(", "try:\n    value = ",
    "if __name__ ==", "    return self.", "with open(path) as ",
]  # fmt: skip


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.full)])
def test_eight_streams(serve: Serve, seconds: int) -> None:
    server = serve("--parallel", str(STREAMS), "--ctx", "256")
    http = server.http
    alone = [_text(http, prompt) for prompt in PROMPTS]
    assert len(set(alone)) > STREAMS // 2
    for prompt, text in zip(PROMPTS, alone, strict=True):
        assert _text(http, prompt) == text  # greedy: the same each time

    until = time.monotonic() + seconds
    resident: list[int] = []

    def ask(number: int) -> list[str]:
        texts: list[str] = []
        while time.monotonic() < until or not texts:
            texts.append(_text(http, PROMPTS[number]))
            if number == 0:
                resident.append(_rss(server.about["pid"]))
        return texts

    with ThreadPoolExecutor(STREAMS) as pool:
        found = list(pool.map(ask, range(STREAMS)))
    for prompt, expected, texts in zip(PROMPTS, alone, found, strict=True):
        wrong = [text for text in texts if text != expected]
        assert not wrong, (prompt, len(wrong), len(texts), expected, wrong[0])
    grown = max(resident) - resident[min(len(resident) - 1, 1)]
    assert grown < 32 << 20, f"{grown / 2**20:.1f} MiB more than at the beginning"


def _text(http: Http, prompt: str) -> str:
    """What is streamed, each event in its place."""
    text, n_events = "", 0
    for event in http.stream(
        "/completion",
        {"prompt": prompt, "n_predict": 48, "temperature": 0, "top_k": 1, "return_tokens": True},
    ):
        text += event["content"]
        n_events += len(event["tokens"])
        if event["stop"]:
            assert event["tokens_predicted"] >= n_events
            return str(text)
    pytest.fail("the stream broke off")


def _rss(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
