"""`spa serve` and `spa run` as a person uses them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from plm_edge.cli import main
from plm_edge.spa.making import Made, Texts
from tests.spa.test_serving import PROMPT

CLIENT = """
import sys
from plm_edge.cli import main
from plm_edge.machine.memory import peak_rss
code = main(sys.argv[1:])
print(peak_rss(), file=sys.stderr)
print([name for name in sys.modules if name.startswith("plm_edge.bindings")], file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def plugin(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "plugin.gguf"
    made.plugin.write(path)
    return path


def test_a_server_and_a_device_without_an_engine(
    read_texts: Texts, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path))
    key = tmp_path / "key"
    key.write_text("# for tests\nthe-key\n", encoding="utf-8")
    key.chmod(0o600)
    command = [sys.executable, "-m", "plm_edge", "spa", "serve", "--port", "0", "--texts", "1",
               "--base", str(read_texts.header.path), "--ctx", "256",
               "--key-file", str(key)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            found = re.fullmatch(r"fingerprint ([0-9a-f]{64})\n", server.stdout.readline())
            assert url.startswith("wss://127.0.0.1:")
            assert found
            words = ["spa", "run", "--server", url, "--fingerprint", found[1], "--key-file",
                     str(key), "--plugin", str(plugin), "-p", PROMPT, "-n", "20"]  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-c", CLIENT, *words, "--json"], capture_output=True, text=True
            )
        finally:
            server.terminate()
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["schema"] == "plm-edge/spa-run/1"
    assert said["tokens"] == 20
    assert said["overrides"] > 0
    assert said["bytes_down"] > 20 * 400
    resident, modules = done.stderr.strip().splitlines()[-2:]
    assert int(resident) <= 100_000_000
    assert modules == "[]"


def test_without_a_server(
    read_texts: Texts, plugin: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["spa", "run", "--mode", "local", "--base", str(read_texts.header.path), "-n", "12",
               "--plugin", str(plugin), "-p", PROMPT, "--ctx", "256"]  # fmt: skip
    assert main([*command, "--show"]) == 0
    text = capfd.readouterr().out
    assert "[" in text
    assert main([*command, "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["text"] == text.rstrip("\n").replace("[", "").replace("]", "")
    assert said["bytes_up"] == 0


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--mode", "local", "--server", "ws://127.0.0.1:1"], "exclude each other"),
        ([], "no --server is given"),
        (["--server", "http://127.0.0.1:1"], "is no address"),
        (["--server", "wss://127.0.0.1:1"], "cannot be told from another"),
    ],
)
def test_what_makes_no_sense(
    plugin: Path, capsys: pytest.CaptureFixture[str], words: list[str], match: str
) -> None:
    assert main(["spa", "run", "--plugin", str(plugin), "-p", "x", *words]) == 2
    assert match in capsys.readouterr().err


def test_plain_is_for_this_machine(tiny_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["spa", "serve", "--base", str(tiny_gguf), "--plain", "--host", "0.0.0.0"]
    assert main(command) == 2
    assert "--plain is for this machine" in capsys.readouterr().err
