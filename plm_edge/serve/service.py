"""A service starts the server with the machine: a unit of systemd for the user, a launchd agent, or
a script for Termux:Boot."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.serve import keys

Kind = Literal["systemd", "launchd", "termux"]
NAME = "plm-edge"
_LABEL = "org.plm-edge.serve"
_OURS = "written by plm-edge service install"
_FOLDERS = ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


@dataclass(frozen=True)
class Unit:
    """A file that starts the server, and what to do with it.

    Attributes:
        path: where it belongs.
        text: what it holds.
        enable: commands that switch it on, in order.
        disable: commands that switch it off, before the file is removed.
    """

    kind: Kind
    path: Path
    text: str
    enable: tuple[tuple[str, ...], ...]
    disable: tuple[tuple[str, ...], ...]


def kind_here() -> Kind:
    """What starts services on this machine."""
    if sys.platform == "darwin":
        return "launchd"
    return "termux" if "com.termux" in os.environ.get("PREFIX", "") else "systemd"


def unit(kind: Kind, arguments: Sequence[str]) -> Unit:
    """The unit that runs `plm-edge serve` with these arguments, and with our variables as they are
    set here: nothing else sets them for a service. A key is not among them."""
    words = [_absolute(word) for word in arguments]
    command = [sys.executable, "-m", "plm_edge", "serve", *words]
    set_here = {
        name: str(Path(value).absolute()) if name.endswith("_DIR") else _absolute(value)
        for name, value in sorted(os.environ.items())
        if (name.startswith("PLM_EDGE_") or name in _FOLDERS) and name != keys.VARIABLE and value
    }
    if kind == "launchd":
        return _launchd(command, set_here)
    if kind == "termux":
        return _termux(command, set_here)
    return _systemd(command, set_here)


def _absolute(word: str) -> str:
    """A word with the file that it names from the root on: a service starts in another folder."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{Path(value).resolve()}" if Path(value).is_file() else word


def install(wanted: Unit) -> bool:
    """Place a unit and switch it on.

    Returns:
        Whether systemd was there to start it now; else it waits for the next login.

    Raises:
        PlmEdgeError: a file that is not ours is in its place, it cannot be written, or systemd
            refuses it.
    """
    if wanted.path.exists() and _OURS not in wanted.path.read_text(encoding="utf-8"):
        raise _foreign(wanted.path)
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(wanted.path, wanted.text)
    except OSError as error:
        raise PlmEdgeError(
            f"the service cannot be placed in {wanted.path.parent}",
            str(error.strerror or error),
            "see it with --print, and place it by hand",
            ExitCode.ENVIRONMENT,
        ) from error
    if not available():
        return False
    for command in wanted.enable:
        done = _run(command)
        if done.returncode:
            remove(wanted)
            raise PlmEdgeError(
                "systemd does not start the service",
                done.stderr.strip() or f"{shlex.join(command)} ended with {done.returncode}",
                "see: journalctl --user -u plm-edge",
                ExitCode.ENVIRONMENT,
            )
    return True


def remove(placed: Unit) -> bool:
    """Switch a unit off and remove its file; return whether it was there.

    Raises:
        PlmEdgeError: the file in its place is not ours.
    """
    if not placed.path.exists():
        return False
    if _OURS not in placed.path.read_text(encoding="utf-8"):
        raise _foreign(placed.path)
    if available():
        for command in placed.disable:
            _run(command)
    placed.path.unlink()
    if available():
        _run(("systemctl", "--user", "daemon-reload"))
    return True


def state(placed: Unit) -> str:
    """active, inactive, failed …, as systemd says it; "installed" where none can be asked, else
    "not installed"."""
    if not placed.path.exists():
        return "not installed"
    if not available():
        return "installed"
    return _run(("systemctl", "--user", "is-active", placed.path.name)).stdout.strip() or "unknown"


def available() -> bool:
    """Whether a systemd of this user can be asked."""
    if shutil.which("systemctl") is None:
        return False
    return _run(("systemctl", "--user", "show-environment")).returncode == 0


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _systemd(command: Sequence[str], variables: Mapping[str, str]) -> Unit:
    configured = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(configured).expanduser() / "systemd/user" / f"{NAME}.service"
    # systemd takes words as a shell does, but for \\, % and $, which it would replace.
    words = shlex.join(command).replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    lines = "".join(
        f"Environment={_quoted(f'{name}={value}')}\n" for name, value in variables.items()
    )
    text = f"""# {_OURS}
[Unit]
Description=plm-edge: a language model as a server

[Service]
{lines}ExecStart={words}
Restart=on-failure
RestartSec=5
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""
    systemctl = ("systemctl", "--user")
    return Unit(
        "systemd",
        path,
        text,
        ((*systemctl, "daemon-reload"), (*systemctl, "enable", "--now", path.name)),
        ((*systemctl, "disable", "--now", path.name),),
    )


def _quoted(text: str) -> str:
    """Text as one word of an Environment= line, where $ stands for itself."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _launchd(command: Sequence[str], variables: Mapping[str, str]) -> Unit:
    path = Path(f"~/Library/LaunchAgents/{_LABEL}.plist").expanduser()
    plist = {
        "Label": _LABEL,
        "ProgramArguments": list(command),
        "EnvironmentVariables": dict(variables),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
    }
    head, rest = plistlib.dumps(plist).decode().split("\n", 1)
    return Unit(
        "launchd",
        path,
        f"{head}\n<!-- {_OURS} -->\n{rest}",
        (("launchctl", "load", "-w", str(path)),),
        (("launchctl", "unload", "-w", str(path)),),
    )


def _termux(command: Sequence[str], variables: Mapping[str, str]) -> Unit:
    path = Path("~/.termux/boot/plm-edge").expanduser()
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    text = f"""#!/data/data/com.termux/files/usr/bin/sh
# {_OURS}
{lines}termux-wake-lock
exec {shlex.join(command)} --quiet
"""
    return Unit("termux", path, text, (("chmod", "+x", str(path)),), ())


def _foreign(path: Path) -> PlmEdgeError:
    return PlmEdgeError(
        f"{path} is not ours",
        "it does not say that plm-edge wrote it",
        "move it away first",
    )
