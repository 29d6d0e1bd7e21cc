"""`plm-edge chat` uses the server that has its model, and loads it itself where none has."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit import plm_gguf
from testkit.cli import Cli
from tests.serve.conftest import started

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}\n{% endfor %}a"


@pytest.mark.parametrize("key", ["", "secret"])
def test_a_chat_with_the_server_that_runs(
    cli: Cli, tmp_path: Path, program: Path, key: str
) -> None:
    model = tmp_path / "chat.gguf"
    plm_gguf.write(model, script=b"xyz", endless=False, chat_template=TEMPLATE)
    if key:
        cli.env["PLM_EDGE_API_KEY"] = key
    asked = ("chat", model, "--temp", "0")
    with started(cli, model) as server:
        for arguments in (asked, ("chat", "--temp", "0")):  # by name, or the only one
            done = cli(*arguments, stdin=b"hello\n")
            assert "xyz" in done.stdout
            assert server.about["url"] in done.stderr
        other = cli(*asked, "--ctx", "64", stdin=b"hello\n")  # it has another context
        assert "xyz" in other.stdout
        assert server.about["url"] not in other.stderr
        assert server.log.count("eval time") >= 4
    alone = cli(*asked, stdin=b"hello\n")
    assert "xyz" in alone.stdout
    assert server.about["url"] not in alone.stderr
