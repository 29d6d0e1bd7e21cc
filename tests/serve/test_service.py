"""Units for systemd, launchd and Termux:Boot: what they run, and that nothing else is touched."""

from __future__ import annotations

import plistlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.cli import Cli


@pytest.fixture
def home(cli: Cli, tmp_path: Path) -> Path:
    """A home of its own, and a `systemctl` that writes down what it is asked."""
    home, programs = tmp_path / "home", tmp_path / "programs"
    home.mkdir()
    programs.mkdir()
    fake = programs / "systemctl"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho active\n')
    fake.chmod(0o755)
    cli.env |= {"HOME": str(home), "PATH": f"{programs}:{cli.env['PATH']}"}
    cli.env.pop("XDG_CONFIG_HOME", None)
    return home


def test_systemd(cli: Cli, home: Path, tmp_path: Path, tiny_gguf: Path) -> None:
    cli("service", "install", str(tiny_gguf), "--port", "7777", "--alias", "50% $HOME")
    unit = home / ".config/systemd/user/plm-edge.service"
    lines = unit.read_text().splitlines()
    command = next(line for line in lines if line.startswith("ExecStart=")).partition("=")[2]
    words = shlex.split(command.replace("%%", "%").replace("$$", "$"))
    assert words[:4] == [sys.executable, "-m", "plm_edge", "serve"]
    assert words[4:] == [str(tiny_gguf), "--port", "7777", "--alias", "50% $HOME"]
    asked = (tmp_path / "asked").read_text()
    assert "--user enable --now plm-edge.service" in asked
    assert cli("service", "status").stdout.startswith("active")

    before = {path for path in home.rglob("*") if path.is_file()}
    assert before == {unit}
    cli("service", "remove")
    assert not [path for path in home.rglob("*") if path.is_file()]
    assert "--user disable --now plm-edge.service" in (tmp_path / "asked").read_text()
    assert "no service is installed" in cli("service", "remove").stderr
    assert cli("service", "status").stdout.startswith("not installed")


def test_a_unit_of_somebody_else_stays(cli: Cli, home: Path) -> None:
    unit = home / ".config/systemd/user/plm-edge.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Unit]\n")
    for command in ("install", "remove"):
        assert cli.fails("service", command, code=3)[0] == f"{unit} is not ours"
    assert unit.read_text() == "[Unit]\n"


def test_a_systemd_that_refuses(cli: Cli, home: Path, tmp_path: Path) -> None:
    fake = tmp_path / "programs/systemctl"
    fake.write_text('#!/bin/sh\n[ "$2" != enable ] || { echo "no such unit" >&2; exit 5; }\n')
    what, why, _ = cli.fails("service", "install", code=4)
    assert what == "systemd does not start the service"
    assert why == "no such unit"
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_print_changes_nothing(cli: Cli, home: Path) -> None:
    done = cli("service", "install", "--print", "--lan")
    assert "serve --lan" in done.stdout
    assert "systemctl --user enable --now" in done.stderr
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_launchd(cli: Cli, home: Path) -> None:
    done = cli("service", "install", "--kind", "launchd", "--port", "1234")
    plist = plistlib.loads(done.stdout.encode())
    assert plist["ProgramArguments"][1:] == ["-m", "plm_edge", "serve", "--port", "1234"]
    assert plist["RunAtLoad"] is True
    assert "launchctl load -w" in done.stderr
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_termux(cli: Cli, home: Path, tmp_path: Path) -> None:
    done = cli("service", "install", "--kind", "termux", "--alias", "it's")
    script = tmp_path / "boot"
    script.write_text(done.stdout)
    sh = shutil.which("sh")
    assert sh
    assert subprocess.run([sh, "-n", script]).returncode == 0
    assert "termux-wake-lock" in done.stdout
    assert shlex.quote("it's") in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere.gguf",), 3, "there is no file nowhere.gguf"),
        (("--prot", "1"), 2, "No such option: --prot"),
        (("--port", "high"), 2, "--port"),
        (("--detach",), 2, "in the background already"),
    ],
)
def test_what_serve_would_refuse_is_refused(
    cli: Cli, home: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    """A unit with it would fail at each login, where nobody looks."""
    assert said in " ".join(cli.fails("service", "install", *words, code=code))
    assert not [path for path in home.rglob("*") if path.is_file()]
