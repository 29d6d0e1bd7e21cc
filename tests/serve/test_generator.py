"""A running server generates what a session here does, through the same protocol."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.serve import client, running
from testkit.cli import Cli
from tests.serve.conftest import Serve, runs, wait_until

GREEDY = Sampling(temp=0)
PROMPT = "def add(a, b):"
CODE = "class A:\n    def __init__(self):\n        self.x = 1\n\n"


@pytest.fixture
def data(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process sees the servers that `cli` starts."""
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", cli.env["PLM_EDGE_DATA_DIR"])


@pytest.mark.usefixtures("data")
def test_the_same_tokens_as_here(serve: Serve, cli: Cli, tiny_gguf: Path) -> None:
    cli.env["PLM_EDGE_API_KEY"] = "secret"
    serve("--ctx", "256")
    found = running.servers()[0]
    with client.generator(found) as generator:
        prompt = generator.encode(PROMPT, raw=True).tokens
        there = generator.generate(Request(prompt, 32, GREEDY))
        text = there.whole()
        second = generator.generate(Request(prompt, 32, GREEDY))
        again = second.whole()
    with Session.open(tiny_gguf, Options(n_ctx=256)) as session:
        local = LocalGenerator(session)
        assert local.encode(PROMPT, raw=True).tokens == prompt
        here = local.generate(Request(prompt, 32, GREEDY))
        assert here.whole() == text == again
    assert there.tokens == here.tokens
    assert there.stop_reason == here.stop_reason
    assert there.stats.n_generated == here.stats.n_generated
    assert second.stats.peak_rss_bytes > 1 << 20
    assert second.stats.n_ctx == 256
    assert there.stats.zero_rows == pytest.approx(here.stats.zero_rows, abs=0.02)
    assert there.stats.n_reused_memory == 0
    assert second.stats.n_reused_memory == len(prompt) - 1
    assert second.stats.prefill_tps == pytest.approx(1 / second.stats.prefill_s)
    assert second.stats.kv_bytes_allocated == here.stats.kv_bytes_allocated


@pytest.mark.usefixtures("data")
def test_its_guesses_change_no_text(serve: Serve, tiny_gguf: Path) -> None:
    serve("--ctx", "512", "--speculate")
    with client.generator(running.servers()[0]) as generator:
        tokens = generator.encode(2 * CODE + "class A:\n    def", raw=True).tokens
        there = generator.generate(Request(tokens, 64, GREEDY))
        text = there.whole()
    with Session.open(tiny_gguf, Options(n_ctx=512)) as session:
        alone = Request(tokens, 64, GREEDY, speculate=False)
        assert LocalGenerator(session).generate(alone).whole() == text
    assert 0 < there.stats.n_accepted <= there.stats.n_drafted


def test_guesses_that_would_change_the_text(cli: Cli, tiny_gguf: Path) -> None:
    what, why, fix = cli.fails("serve", tiny_gguf, "--speculate", "--parallel", "5", code=2)
    assert "would change the text" in what
    assert "5 conversations" in why
    assert "--parallel 4" in fix


@pytest.mark.usefixtures("data")
def test_a_base_model_gets_no_template(serve: Serve) -> None:
    serve()
    generator = client.generator(running.servers()[0])
    assert not generator.encode(PROMPT).templated
    with pytest.raises(PlmEdgeError, match="chat template"):
        generator.encode([{"role": "user", "content": "hello"}])


@pytest.mark.usefixtures("data")
def test_a_dead_server_says_why(serve: Serve) -> None:
    server = serve()
    generator = client.generator(running.servers()[0])
    tokens = generator.encode(PROMPT, raw=True).tokens
    os.kill(server.process.pid, signal.SIGKILL)
    wait_until(lambda: not runs(server.about["pid"]))
    with pytest.raises(PlmEdgeError, match="ended"):
        generator.generate(Request(tokens, 4, GREEDY)).whole()
