"""Prompts on disk: a server that starts again reads what the last one computed, and `run` does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testkit.cli import Cli
from tests.serve.conftest import started

pytestmark = pytest.mark.slow

TEXT = "def area(width, height):\n    return width * height\n\nfor i in range(10):\n    print(i)\n"
PROMPT = TEXT * 12


def ask(cli: Cli, model: Path, *arguments: str) -> tuple[str, int, int]:
    """What a fresh server says greedily; tokens of the prompt that it had, and all of them."""
    with started(cli, model, "--threads", "1", *arguments) as server:
        body = {"prompt": PROMPT, "max_tokens": 24, "temperature": 0}
        answer = server.http("/v1/completions", body).json
    usage = answer["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return answer["choices"][0]["text"], cached, usage["prompt_tokens"]


@pytest.mark.parametrize("kv", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("model", ["tiny_gguf", "chat_gguf"])
@pytest.mark.usefixtures("program")
def test_a_restarted_server_reads_the_prompt(
    request: pytest.FixtureRequest, cli: Cli, model: str, kv: str
) -> None:
    path: Path = request.getfixturevalue(model)
    first, none, count = ask(cli, path, "--kv", kv)
    second, cached, _ = ask(cli, path, "--kv", kv)
    without, off, _ = ask(cli, path, "--kv", kv, "--no-prompt-cache")
    assert (none, cached, off) == (0, count - 1, 0)
    assert first == second == without


@pytest.mark.usefixtures("program")
def test_run_and_serve_share_what_they_keep(cli: Cli, tiny_gguf: Path) -> None:
    arguments = ("-p", PROMPT, "-n", "24", "--temp", "0", "--kv", "f16", "--threads", "1")
    said = json.loads(cli("run", tiny_gguf, *arguments, "--json").stdout)
    text, cached, count = ask(cli, tiny_gguf, "--kv", "f16")
    assert (text, cached) == (said["text"], count - 1)
    again = json.loads(cli("run", tiny_gguf, *arguments, "--json").stdout)
    assert again["tokens"] == said["tokens"]
    assert (said["reused"], again["reused"]) == (
        {"memory": 0, "disk": 0},
        {"memory": 0, "disk": count - 1},
    )
    kept = json.loads(cli("cache", "--json").stdout)
    assert [Path(model["model"]).name for model in kept["models"]] == [tiny_gguf.name]
    cli("cache", "clear")
    assert ask(cli, tiny_gguf, "--kv", "f16")[1] == 0
