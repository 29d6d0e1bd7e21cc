"""`spa run` against a server with a base of arithmetic: addresses, keys, bases, what it shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli import main
from plm_edge.spa import device
from plm_edge.spa import remote as remotes
from plm_edge.spa.remote import Remote
from plm_edge.spa.server import SpaServer
from plm_edge.spa.wire import Frame
from testkit.relay import Harm, Relay
from tests.spa.links import OWN, PROMPT, alone
from tests.spa.serving import KEY

# Where it is


@pytest.mark.parametrize(
    ("url", "fingerprint", "what"),
    [
        ("http://127.0.0.1:1", None, "no address"),
        ("wss://127.0.0.1:99999", "00", "no address"),
        ("wss://127.0.0.1:port", "00", "no address"),
        ("ws://[::1", None, "no address"),
        ("ws://127.0.0.1:1/#x", None, "no address"),
        ("wss://127.0.0.1:1", None, "cannot be told from another"),
        ("ws://192.0.2.1:1", None, "not be encrypted"),
        ("ws://example.org", None, "not be encrypted"),
        ("ws://127.0.0.1:1", "00", "not be encrypted"),
    ],
)
def test_addresses(url: str, fingerprint: str | None, what: str) -> None:
    with pytest.raises(PlmEdgeError, match=what):
        Remote(url, KEY, fingerprint, OWN)


# The command


def test_a_key_that_others_may_read(
    known: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text(KEY, encoding="utf-8")
    key.chmod(0o644)
    command = ["spa", "run", "--server", "ws://127.0.0.1:1", "-p", "x", "--key-file", str(key)]
    assert main([*command, "--plugin", str(known)]) != 0
    said = capsys.readouterr().err
    assert "others on this machine may read the keys" in said
    assert KEY not in said


def test_another_base_is_refused_before_anything_is_sent(
    server: SpaServer, known: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Relay(server.port) as relay:
        command = ["spa", "run", "--server", f"ws://127.0.0.1:{relay.port}", "-p", "x"]
        assert main([*command, "--plugin", str(known), "--base", str(known)]) != 0
        assert "is not the base of this plugin" in capsys.readouterr().err
        assert not relay.up


def test_the_command_shows_whole_characters(
    server: SpaServer, known: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each token is a byte here, and the prompt, as the shell gave it, is no UTF-8."""
    given, prompt = "caf\udce9", "caf\ufffd"
    tokens = alone({}, prompt, 200)[len(prompt.encode()) :]
    text = b"".join(map(OWN.vocabulary.piece, tokens)).decode("utf-8", "replace")
    assert any("\x7f" < char < "\ufffd" for char in text)
    command = ["spa", "run", "--server", f"ws://127.0.0.1:{server.port}", "--plugin",
               str(known), "-n", "200", "-p", given]  # fmt: skip
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == text
    assert main(command) == 0
    assert capsys.readouterr().out == console.printable(text) + "\n"


@pytest.mark.parametrize("words", [[], ["--json"], ["--show"]])
def test_a_server_that_is_lost_for_good_leaves_what_was_made(
    server: SpaServer,
    known: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.setattr(remotes, "CONNECT_S", 2.0)  # for the way back, on which nothing comes
    monkeypatch.setattr(remotes, "STALL_S", 1.0)
    monkeypatch.setattr(device, "RETRY_S", 0.3)
    whole = b"".join(map(OWN.vocabulary.piece, alone({}, PROMPT, 100)[len(PROMPT) :]))
    with Relay(server.port) as relay:
        relay.harm = Harm("blackhole", 12_000, lasting=True)
        command = ["spa", "run", "--server", f"ws://127.0.0.1:{relay.port}", "-n", "100", "-p",
                   PROMPT, "--plugin", str(known), *words]  # fmt: skip
        assert main(command) == ExitCode.DEVICE
    out, err = capsys.readouterr()
    if words == ["--json"]:
        said = json.loads(out)
        assert (said["ended"], said["overrides"], said["personal"]) == ("lost", 0, [])
        assert 10 < said["tokens"] < 100
        text = console.printable(said["text"])
    else:
        text = out.rstrip("\n")
    assert len(text) > 10
    assert text.rstrip("\ufffd") in console.printable(whole.decode("utf-8", "replace"))
    lines = err.strip().splitlines()
    assert lines[-3:-1] == ["the server was lost", lines[-2]]
    assert "tokens were made before" in lines[-2]
    assert "--base MODEL" in lines[-1]


def test_a_server_that_refuses_within_a_text_is_not_lost(
    server: SpaServer,
    known: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame = Remote.frame

    def refused(there: Remote, position: int) -> Frame:
        if position == len(PROMPT) + 5:
            raise PlmEdgeError("the server does not go on", "no room", "none", ExitCode.DEVICE)
        return frame(there, position)

    monkeypatch.setattr(Remote, "frame", refused)
    command = ["spa", "run", "--server", f"ws://127.0.0.1:{server.port}", "-p", PROMPT,
               "--plugin", str(known), "--json"]  # fmt: skip
    assert main(command) == ExitCode.DEVICE
    said = json.loads(capsys.readouterr().out)
    assert (said["ended"], said["tokens"]) == ("failed", 5)


@pytest.mark.parametrize(
    "words",
    [["chat", "--spa", "no.gguf", "--mode", "local"],
     ["spa", "run", "--plugin", "no.gguf", "--mode", "local", "-p", "x"]],
)  # fmt: skip
def test_numpy_is_told_of_its_threads_before_it_is_there(words: list[str]) -> None:
    program = """
import sys
from plm_edge.cli import main
from plm_edge.cli.spa import shared
shared.spare_threads = lambda: print("numpy" in sys.modules)
main(sys.argv[1:])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *words], input="x", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == "False\n"
    assert "no.gguf" in done.stderr
