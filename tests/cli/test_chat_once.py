"""`plm-edge chat` in a pipe, and options that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode
from plm_edge.cli import main as cli_main
from testkit.cli import Cli
from tests.cli.chats import GREEDY, turns


def test_a_pipe_is_answered_once_and_plainly(cli: Cli, chatty: Path) -> None:
    done = cli("chat", chatty / "chat.gguf", *GREEDY, stdin=b"question\n")
    assert done.stdout == "xyz\n"
    assert "\x1b" not in done.stderr
    assert ">" not in done.stderr
    assert turns(cli) == [("question", "xyz")]
    done = cli("chat", "-c", *GREEDY, stdin=b"/undo")  # a message: nobody is there to command
    assert done.stdout == "xyz\n"
    assert turns(cli) == [("question", "xyz"), ("/undo", "xyz")]
    done = cli("chat", chatty / "chat.gguf", *GREEDY, "--no-save", stdin=b"secret")
    assert done.stdout == "xyz\n"
    assert len(turns(cli)) == 2


def test_exact_by_option_and_by_environment(cli: Cli, tiny_gguf: Path) -> None:
    """So hot a text goes another way as soon as any likelihood is another one."""
    call = ("chat", tiny_gguf, "--no-save", "-n", "150", "--temp", "2", "--seed", "3")
    usual, exact = (
        cli(*call, *more, stdin=b"def mean(values):").stdout for more in ((), ("--exact",))
    )
    assert usual != exact
    cli.env["PLM_EDGE_EXACT"] = "1"
    assert cli(*call, stdin=b"def mean(values):").stdout == exact


def test_a_pipe_with_errors(cli: Cli, chatty: Path) -> None:
    model = chatty / "chat.gguf"
    assert cli.fails("chat", model, code=2, stdin=b" \n")[0] == "there is no question"
    what, why, _ = cli.fails("chat", model, "--ctx", "256", code=3, stdin=b"x" * 300)
    assert what == "the message does not fit the context"
    assert "303 tokens" in why
    assert cli.fails("chat", "-c", code=3, stdin=b"x")[0] == "there is no chat to continue"
    assert cli.fails("chat", "-c", "nobody", code=3, stdin=b"x")[0] == "there is no chat nobody"
    assert cli.fails("chat", "--json", code=2)[0] == "--json is for --list"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--spa", "plugin.gguf", "--device", "pi"], "chat --spa does not go with --device"),
        (["--spa", "plugin.gguf", "--emulate"], "chat --spa does not go with --emulate"),
        (["--server", "ws://127.0.0.1:1"], "--server without --spa"),
        (["--fingerprint", "ab"], "--fingerprint without --spa"),
        (["--key-file", "key"], "--key-file without --spa"),
        (["--mode", "local"], "--mode local without --spa"),
        (["--show"], "--show without --spa"),
    ],
)
def test_options_that_would_do_nothing(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli_main(["chat", *words]) == ExitCode.USAGE
    what, why, fix = capsys.readouterr().err.splitlines()
    assert what == said
    assert (why[:7], fix[:7]) == ("  why  ", "  fix  ")
