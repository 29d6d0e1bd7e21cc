"""Everything but `pull` works without a network: no interface is up but loopback."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from testkit import needs
from testkit.checkout import ROOT
from testkit.cli import Cli

pytestmark = pytest.mark.slow


def test_all_but_pull(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    needs.program("unshare")
    needs.program("ip")
    cli.env["PLM_EDGE_CONFIG_DIR"] = str(tmp_path / "config")
    checkpoint = ROOT / "examples/tiny-plm/checkpoint"
    short = ("--temp", "0", "--threads", "1")
    commands: list[tuple[str | Path, ...]] = [
        ("add", tiny_gguf, "--alias", "tiny"), ("list",), ("show", "tiny"), ("inspect", "tiny"),
        ("run", "tiny", "-p", "x", "-n", "4", *short),
        ("convert", checkpoint, "--quant", "q8_0", "--out", tmp_path / "made.gguf"),
        ("cache",), ("doctor",), ("devices",),
        ("devices", "add", "my-pi", "--profile", "rpi5", "--host", "pi@192.0.2.1"),
        ("alias", "tiny2", "tiny"), ("ps",), ("engine", "list"), (),
        ("bench", "tiny", "--workload", "smoke", "--budget", "0.1"),
        *((word, "tiny", "--ctx", "32", "--chunks", "1") for word in ("eval", "sparsity")),
        ("imatrix", "tiny", "--ctx", "32", "--chunks", "1", "--out", tmp_path / "i.gguf"),
        ("profile", "tiny", "--prefill", "16", "--depth", "16"), ("service", "status"),
        ("rm", "tiny", "--yes"), ("uninstall", "--yes"),
    ]  # fmt: skip
    done = Cli(cli.env, ["unshare", "-rn", "sh", "-ec", _script(cli, commands)])()
    for number, command in enumerate(commands):
        assert f"ok {number}" in done.stdout, f"{command}: {done.stderr}"


def test_chat(cli: Cli, tiny_gguf: Path) -> None:
    needs.program("unshare")
    command = shlex.join([*cli.command, "chat", str(tiny_gguf), "-n", "4", "--temp", "0"])
    done = Cli(cli.env, ["unshare", "-rn", "sh", "-c", f"echo x | {command}"])()
    assert done.stdout.strip()


def test_pull_says_that_there_is_none(cli: Cli) -> None:
    needs.program("unshare")
    wrapped = Cli(cli.env, ["unshare", "-rn", *cli.command])
    what, _, fix = wrapped.fails("pull", "somebody/something:Q4_K_M", code=3)
    assert what
    assert fix


def _script(cli: Cli, commands: list[tuple[str | Path, ...]]) -> str:
    lines = ["ip link set lo up"]
    for number, command in enumerate(commands):
        words = shlex.join([*cli.command, *map(str, command)])
        lines.append(f"{words} >/dev/null && echo ok {number} || true")
    return "\n".join(lines)
