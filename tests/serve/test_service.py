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
    given = [str(tiny_gguf), "--port", "7777", "--alias", "50% $HOME", "--exact", "-ngl", "off"]
    cli("service", "install", *given)
    unit = home / ".config/systemd/user/plm-edge.service"
    lines = unit.read_text().splitlines()
    command = next(line for line in lines if line.startswith("ExecStart=")).partition("=")[2]
    words = shlex.split(command.replace("%%", "%").replace("$$", "$"))
    assert words[:4] == [sys.executable, "-m", "plm_edge", "serve"]
    assert words[4:] == given
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


@pytest.mark.parametrize("kind", ["systemd", "launchd", "termux"])
def test_our_variables_go_with_it(cli: Cli, home: Path, tmp_path: Path, kind: str) -> None:
    """Nothing else sets them for a service: it would look for the model in other folders."""
    secret, odd = "the-key-that-nobody-sees", 'a "b" 5% $HOME'
    cli.env |= {"PLM_EDGE_EXACT": "1", "PLM_EDGE_API_KEY": secret, "PLM_EDGE_MODEL": odd}
    keys = tmp_path / "keys"
    keys.write_text("k\n")
    keys.chmod(0o600)
    done = cli("service", "install", "--print", "--kind", kind, f"--api-key-file={keys}")
    if kind == "launchd":
        found = plistlib.loads(done.stdout.encode())["EnvironmentVariables"]
    else:
        start = "Environment=" if kind == "systemd" else "export "
        lines = [line for line in done.stdout.splitlines() if line.startswith(start)]
        words = (shlex.split(line.removeprefix(start).replace("%%", "%"))[0] for line in lines)
        found = dict(word.split("=", 1) for word in words)
    assert found["PLM_EDGE_EXACT"] == "1"
    assert found["PLM_EDGE_MODEL"] == odd
    assert found["PLM_EDGE_DATA_DIR"] == cli.env["PLM_EDGE_DATA_DIR"]
    assert secret not in done.stdout
    assert "--api-key-file" not in done.stderr
    if kind == "systemd":
        without = cli("service", "install", "--print", "--kind", kind)
        assert "use --api-key-file" in without.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere.gguf",), 3, "there is no file nowhere.gguf"),
        (("--prot", "1"), 2, "No such option: --prot"),
        (("--port", "high"), 2, "--port"),
        (("--detach",), 2, "in the background already"),
        (("--api-key-file", "nowhere"), 3, "the key file nowhere cannot be read"),
        (("--host", "300.1.1.1"), 2, "nothing can listen at 300.1.1.1"),
        (("--origin", "nonsense"), 2, "not how a browser names a web page"),
        (("--gpu", "some"), 2, "--gpu some says nothing"),
        (("--alias", ""), 2, "an alias is empty"),
        (("--device", "nowhere"), 3, "there is no device 'nowhere'"),
        (("--speculate", "--parallel", "9"), 2, "would change the text"),
    ],
)
def test_what_serve_would_refuse_is_refused(
    cli: Cli, home: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    """A unit with it would fail at each login, where nobody looks."""
    assert said in " ".join(cli.fails("service", "install", *words, code=code))
    assert not [path for path in home.rglob("*") if path.is_file()]
