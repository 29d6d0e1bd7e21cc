"""`plm-edge chat` uses the server that has its model, and loads it itself where none has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testkit import plm_gguf
from testkit.cli import Cli
from tests.cli.chat_screen import ChatScreen
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
        loaded = cli(*asked, "--no-server", stdin=b"hello\n")
        assert "xyz" in loaded.stdout
        assert server.about["url"] not in loaded.stderr
    alone = cli(*asked, stdin=b"hello\n")
    assert "xyz" in alone.stdout
    assert server.about["url"] not in alone.stderr


def test_ctrl_c_stops_what_the_server_writes(cli: Cli, tmp_path: Path, program: Path) -> None:
    model = plm_gguf.write(tmp_path / "m.gguf", script=b"xyz", n_ctx=50_000, chat_template="Q")
    with started(cli, model, "--threads", "1", "--ctx", "50000") as server:
        screen = ChatScreen(cli, model, "--temp", "0", env={"TERM": "xterm-256color"})
        screen.wait(server.about["url"])
        screen.wait_prompt()
        for count in (1, 2):
            screen.type("go\r")
            screen.wait(lambda: bool("".join(written(cli)[count - 1 :])))  # noqa: B023
            screen.type("\x03")
            screen.wait("stopped; what it wrote stays", count)
            screen.wait_prompt()
        screen.answer_to("/stats")
        assert screen.leave() == 0
    # stopped after a token or two, an answer is shorter than that
    assert all(answer and "xyz".startswith(answer[:3]) for answer in written(cli))
    for word in ("TTFT", "prefill", "KV cache", "peak RSS"):
        assert word in screen.text


def written(cli: Cli) -> list[str]:
    """The answers of the one chat on disk; none while there is no chat."""
    for path in (Path(cli.env["PLM_EDGE_DATA_DIR"]) / "chats").glob("*.json"):
        turns = json.loads(path.read_bytes())["conversation"]["turns"]
        return [turn["answer"] for turn in turns]
    return []
