"""`plm-edge run`: where a prompt comes from, and what an answer is held to."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pexpect

from testkit import plm_gguf
from testkit.cli import Cli
from tests.cli.test_terminal import on_terminal

GREEDY = ("--temp", "0", "--threads", "1")
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def result(cli: Cli, *arguments: str | Path, stdin: bytes = b"") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(cli("run", *arguments, "--json", *GREEDY, stdin=stdin).stdout)
    return data


def n_prompt(cli: Cli, *arguments: str | Path, stdin: bytes = b"") -> int:
    """Tokens of the prompt: its bytes, for the models here."""
    n: int = result(cli, *arguments, "-n", "1", stdin=stdin)["prompt_tokens"]
    return n


def test_the_prompt_comes_from_option_file_and_pipe(cli: Cli, models: Path, tmp_path: Path) -> None:
    model = models / "abc.gguf"
    file = tmp_path / "prompt.txt"
    file.write_bytes("größe\n".encode())
    assert n_prompt(cli, model, "-p", "hello") == 5
    assert n_prompt(cli, model, "-f", file) == len("größe".encode())
    assert n_prompt(cli, model, "-f", "-", stdin=b"ab\n") == 2
    assert n_prompt(cli, model, stdin=b"ab\r\n") == 2
    assert n_prompt(cli, model, "-p", "explain:", stdin=b"a log\n") == len("explain:\na log")
    assert n_prompt(cli, model, "-p", "x", "-f", file, stdin=b"y") == len("x\ngröße\ny".encode())


def test_no_prompt_and_a_file_that_is_missing(cli: Cli, models: Path) -> None:
    what, why, _ = cli.fails("run", models / "abc.gguf", "-f", "/no/such", code=3)
    assert what == "cannot read /no/such"
    assert "No such file" in why
    screen = on_terminal(cli, "run", models / "abc.gguf")
    assert "there is no prompt" in screen
    screen = on_terminal(cli, "run", "why is the sky blue?")
    assert "plm-edge run -p 'why is the sky blue?'" in screen


def test_stop_strings(cli: Cli, models: Path) -> None:
    got = result(cli, models / "abc.gguf", "-p", "x", "--stop", "zz", "--stop", "ca")
    assert (got["text"], got["stop_reason"]) == ("ab", "stop")
    assert "is empty" in cli.fails("run", "nowhere.gguf", "-p", "x", "--stop", "", code=2)[0]


def test_a_system_prompt_takes_the_models_template(cli: Cli, tmp_path: Path) -> None:
    model = plm_gguf.write(tmp_path / "chat.gguf", script=b"abc", chat_template=CHAT)
    got = result(cli, model, "-p", "Q", "--system", "S", "-n", "1")
    assert got["templated"] is True
    assert got["prompt_tokens"] == len("<system>S<user>Q<assistant>")
    assert n_prompt(cli, model, "-p", "Q") == len("<user>Q<assistant>")
    assert n_prompt(cli, model, "-p", "Q", "--raw") == 1


def test_a_base_model_gets_no_template_and_takes_no_system_prompt(
    cli: Cli, models: Path, tmp_path: Path
) -> None:
    model = models / "abc.gguf"
    assert result(cli, model, "-p", "Q", "-n", "1")["templated"] is False
    what, why, _ = cli.fails("run", model, "-p", "Q", "--system", "S", code=2)
    assert what.startswith("a base model takes no system prompt")
    assert "no chat template" in why
    cli.fails("run", model, "-p", "Q", "--system", "S", "--raw", code=2)


def test_a_grammar(cli: Cli, models: Path, tmp_path: Path) -> None:
    model = models / "random.gguf"
    file = tmp_path / "g.gbnf"
    file.write_text('root ::= [x-z]{3} "!"\n')
    for given in (str(file), "root ::= [x-z]{3} [!]"):
        got = result(cli, model, "-p", "a", "--grammar", given)
        assert re.fullmatch("[x-z]{3}!", got["text"])
        assert got["stop_reason"] == "end"
    _, why, _ = cli.fails("run", model, "-p", "a", "--grammar", "root ::= a", code=2)
    assert why == "line 1: there is no rule a"


def test_a_schema(cli: Cli, models: Path, tmp_path: Path) -> None:
    model = models / "random.gguf"
    schema = '{"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 1}}, "required": ["n"]}'  # noqa: E501
    file = tmp_path / "schema.json"
    file.write_text(schema)
    for given in (str(file), schema):
        got = result(cli, model, "-p", "a", "--schema", given)
        assert 1 <= json.loads(got["text"])["n"] <= 9
        assert got["valid"] is True
    done = cli("run", model, "-p", "a", "--schema", schema, "-n", "2", *GREEDY, code=3)
    assert "cut after 2 tokens" in done.stderr
    done = cli("run", model, "-p", "a", "--schema", schema, "-n", "2", "--json", *GREEDY, code=3)
    assert json.loads(done.stdout)["valid"] is False
    cli.fails("run", model, "-p", "a", "--schema", "{", code=2)
    cli.fails("run", model, "-p", "a", "--schema", schema, "--grammar", "root ::= [a]", code=2)


def test_log_probabilities(cli: Cli, models: Path) -> None:
    got = result(cli, models / "random.gguf", "-p", "ab", "-n", "5", "--logprobs", "100")
    assert [chosen["token"] for chosen in got["logprobs"]] == got["tokens"]
    for chosen in got["logprobs"]:
        assert chosen["bytes"] == [chosen["token"]]
        logprobs = [other["logprob"] for other in chosen["top"]]
        assert logprobs == sorted(logprobs, reverse=True)
        assert chosen["top"][0]["token"] == chosen["token"]  # greedy
        assert 0.3 < math.fsum(map(math.exp, logprobs)) < 1
    what, _, _ = cli.fails("run", models / "abc.gguf", "-p", "x", "--logprobs", "1", code=2)
    assert what == "--logprobs is a part of --json"


def test_exact_by_option_and_by_environment(cli: Cli, tiny_gguf: Path) -> None:
    call = (tiny_gguf, "-p", "def mean(values):", "-n", "6", "--logprobs", "1")
    usual, exact = (result(cli, *call, *more)["logprobs"] for more in ((), ("--exact",)))
    assert usual != exact
    cli.env["PLM_EDGE_EXACT"] = "1"
    assert result(cli, *call)["logprobs"] == exact


def test_progress_of_a_long_prompt_on_a_terminal(cli: Cli, models: Path, tmp_path: Path) -> None:
    """It shows how far it is, and the time that is left; Ctrl-C ends it."""
    file = tmp_path / "long.txt"
    file.write_text("a" * 60_000)
    arguments = ("run", models / "abc.gguf", "-f", file, "-n", "3", "--ctx", "65536", *GREEDY)
    child = pexpect.spawn(
        cli.command[0],
        [*cli.command[1:], *map(str, arguments)],
        env=cli.env,
        dimensions=(40, 100),
        timeout=120,
        encoding="utf-8",
    )
    child.expect("reading the prompt")
    child.expect(r"\d+/60000")
    child.expect(r"\d:\d\d:\d\d")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
