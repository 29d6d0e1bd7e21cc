"""What a person sees: on a pseudo-terminal, with and without colour."""

from __future__ import annotations

import re
from pathlib import Path

import pexpect
import pytest

from testkit import plm_gguf
from testkit.cli import Cli
from tests.cli.test_signals import ENDLESS


def on_terminal(cli: Cli, *arguments: str | Path, **env: str) -> str:
    """All that the command writes to a terminal of 100 columns."""
    child = pexpect.spawn(
        cli.command[0],
        [*cli.command[1:], *map(str, arguments)],
        env={**cli.env, **env},
        dimensions=(40, 100),
        timeout=60,
        encoding="utf-8",
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.signalstatus is None
    return str(child.before)


def run(model: Path) -> tuple[str | Path, ...]:
    return ("run", model, "-p", "hello ", "-n", "6", "--temp", "0", "--threads", "1", "--stats")


def test_colours_on_a_terminal(cli: Cli, models: Path) -> None:
    screen = on_terminal(cli, *run(models / "abc.gguf"))
    assert "\x1b[2mhello \x1b[0m" in screen  # the prompt, dim, before its continuation
    assert "abcabc" in screen
    assert "\x1b[1m" in screen  # figures in bold


def test_no_color(cli: Cli, models: Path) -> None:
    screen = on_terminal(cli, *run(models / "abc.gguf"), NO_COLOR="1")
    assert "abcabc" in screen
    assert "peak RSS" in screen
    for colour in range(30, 38):
        assert f"\x1b[{colour}m" not in screen
    error = on_terminal(cli, "run", "/no/such.gguf", "-p", "x", NO_COLOR="1")
    assert "there is no file /no/such.gguf" in error
    assert "\x1b[31m" not in error
    assert "31m" in on_terminal(cli, "run", "/no/such.gguf", "-p", "x")


def test_quiet_shows_the_text_alone(cli: Cli, models: Path) -> None:
    arguments = ("run", models / "abc.gguf", "-p", "hello ", "-n", "6", "--temp", "0", "-q")
    assert on_terminal(cli, *arguments).strip() == "abcabc"


def test_escape_sequences_of_a_model_do_not_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    evil = b"\x1b]0;owned\x07"
    model = plm_gguf.write(tmp_path / "m.gguf", script=evil, endless=False)
    arguments = ("run", model, "-p", "x", "--temp", "0", "-q", "--threads", "1")
    screen = on_terminal(cli, *arguments)
    assert "\\x1b]0;owned\\x07" in screen
    assert "\x1b]" not in screen
    assert cli(*arguments).stdout == evil.decode() + "\n"  # a pipe gets what the model said


@pytest.mark.parametrize("command", ["inspect", "run"])
def test_escape_sequences_in_a_file_do_not_reach_the_terminal(
    cli: Cli, tmp_path: Path, command: str
) -> None:
    model = plm_gguf.write(tmp_path / "m.gguf")
    model.write_bytes(model.read_bytes().replace(b"test-model", b"te\x1b[31m[b]"))
    options = () if command == "inspect" else ("-p", "x", "-n", "1", "--threads", "1")
    screen = on_terminal(cli, command, model, *options)
    assert "te\x1b[31m" not in screen
    if command == "inspect":
        assert "te\\x1b[31m[b]" in screen  # markup of ours is not obeyed either


def test_ctrl_c_typed_on_the_terminal(cli: Cli, models: Path) -> None:
    child = pexpect.spawn(
        cli.command[0],
        [*cli.command[1:], "run", str(models / "abc.gguf"), "-p", "x", *ENDLESS],
        env=cli.env,
        timeout=60,
        encoding="utf-8",
    )
    child.expect("abcabcabc")
    child.sendintr()
    child.expect("stopped by Ctrl-C")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_help_fits_a_narrow_terminal(cli: Cli) -> None:
    screen = on_terminal(cli, "run", "--help", COLUMNS="60", NO_COLOR="1")
    screen = re.sub("\x1b\\[[0-9;]*m", "", screen)
    assert "--prompt" in screen
    assert max(len(line.rstrip()) for line in screen.splitlines()) <= 60
