"""What the shell offers after Tab: names of devices and models, by the completion that it calls."""

from __future__ import annotations

import shlex
from pathlib import Path

import pexpect
import pytest

from testkit import needs
from testkit.cli import Cli


def offered(cli: Cli, line: str) -> list[str]:
    """What bash is told for a command line whose last word is unfinished."""
    words = line.split(" ")
    asked = {"_PLM_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": line}
    asked["COMP_CWORD"] = str(len(words) - 1)
    return Cli(cli.env | asked, cli.command)().stdout.split()


@pytest.mark.parametrize(
    "line",
    [
        "run --device ", "serve --device my-", "show --device ", "stop --device ",
        "deploy --device ", "devices remove ", "devices show my-", "engine build --device my-",
    ],
)  # fmt: skip
def test_devices(cli: Cli, tmp_path: Path, line: str) -> None:
    cli.env["PLM_EDGE_CONFIG_DIR"] = str(tmp_path / "config")
    cli("devices", "add", "my-pi", "--profile", "rpi5", "--host", "pi@192.0.2.1")
    assert "my-pi" in offered(cli, f"plm-edge {line}")


def test_profiles_where_they_are_enough(cli: Cli, tmp_path: Path) -> None:
    cli.env["PLM_EDGE_CONFIG_DIR"] = str(tmp_path / "config")
    assert offered(cli, "plm-edge devices show rpi") == ["rpi4", "rpi5"]
    assert offered(cli, "plm-edge engine build --device rpi5") == ["rpi5"]
    assert offered(cli, "plm-edge run --device rpi") == []


def test_models(cli: Cli, tiny_gguf: Path) -> None:
    cli("add", tiny_gguf, "--alias", "little")
    assert "little" in offered(cli, "plm-edge run li")


def test_bash_completes_once_it_is_installed(cli: Cli, tmp_path: Path) -> None:
    bash = needs.program("bash")
    script = tmp_path / "programs/plm-edge"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shlex.join(cli.command)} "$@"\n')
    script.chmod(0o755)
    cli.env |= {"HOME": str(tmp_path), "TERM": "dumb", "SHELL": bash}
    cli.env["PATH"] = f"{script.parent}:{cli.env['PATH']}"
    # `; true`: bash stays, and is the shell that it finds around it
    first = pexpect.spawn(bash, ["-ic", "plm-edge --install-completion; true"], env=cli.env)
    first.expect("completion installed", timeout=60)
    first.expect(pexpect.EOF)
    shell = pexpect.spawn(bash, ["-i"], env=cli.env, encoding="utf-8", timeout=60)
    shell.send("plm-edge unin\t")
    shell.expect_exact("uninstall ")
    shell.send("--dr\t")
    shell.expect_exact("--dry-run ")
    shell.sendline()
    shell.expect_exact("the shell's completion stays: ~/.bash_completions/plm-edge.sh")
    shell.close(force=True)
