"""A real OpenSSH server on loopback, with keys and settings of its own: the tests' distant machine.

Where the kernel lets us, it has a private mount namespace with a tmpfs of SMALL bytes at `small`,
so that a disk can run full there and nothing outside changes.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from plm_edge.devices.transports.ssh import SshTransport
from testkit import needs, ports

HERE = Path(__file__).parent
SMALL = 8 * 2**20  # bytes


class Sshd:
    """The server. `home` is where its logins' files go; `host` its address for SshTransport."""

    def __init__(self, folder: Path) -> None:
        self._program = needs.program("sshd")
        needs.program("ssh-keygen")
        self.folder = folder
        self.home = folder / "there"
        self.small = folder / "small"
        self.home.mkdir(parents=True)
        self.small.mkdir()
        self.port = ports.free()
        self.user = getpass.getuser()
        self.host = f"{self.user}@127.0.0.1:{self.port}"
        self.key, self.known_hosts = folder / "id", folder / "known_hosts"
        self.config = folder / "ssh_config"
        self._server: subprocess.Popen[bytes] | None = None
        _keygen(self.key)
        shutil.copy(self.key.with_suffix(".pub"), folder / "authorized_keys")
        self.new_host_key()
        self.trust()
        self.write_config()

    def new_host_key(self) -> None:
        """As after a reinstallation."""
        for path in self.folder.glob("host_key*"):
            path.unlink()
        _keygen(self.folder / "host_key")

    def trust(self) -> None:
        """What connecting once by ssh writes."""
        kind, key, *_ = (self.folder / "host_key.pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def write_config(self, *more: str, key: Path | None = None) -> None:
        """The client's settings, with "pi" for the server."""
        lines = [
            f"Host pi\n  HostName 127.0.0.1\n  Port {self.port}\n  User {self.user}",
            f"Host *\n  IdentityFile {key or self.key}\n  IdentitiesOnly yes",
            f"  UserKnownHostsFile {self.known_hosts}",
            *more,
        ]
        self.config.write_text("\n".join(lines) + "\n")

    def start(self, *settings: str, arm: bool = False) -> Sshd:
        """Begin to listen.

        Args:
            settings: more lines of sshd_config.
            arm: programs for aarch64 run there by themselves, as on a Raspberry Pi.
        """
        if arm:
            needs.programs("qemu-aarch64", "unshare", "mount")
        enter = "unshare --user --map-root-user --mount"
        login = f"{enter} {HERE}/as-arm.sh sh -c" if arm else "exec sh -c"
        config = self.folder / "sshd_config"
        config.write_text(
            f"""
Port {self.port}
ListenAddress 127.0.0.1
HostKey {self.folder}/host_key
PidFile none
AuthorizedKeysFile {self.folder}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin yes
MaxStartups 100
SetEnv HOME={self.home}
ForceCommand cd {self.home} && {login} "$SSH_ORIGINAL_COMMAND"
"""
            + "\n".join(settings)
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # privilege separation
        command = [self._program, "-D", "-e", "-f", str(config)]
        if needs.can_mount():
            mount = f"mount -t tmpfs -o size={SMALL} tmpfs {self.small}"
            command = [
                *("unshare", "--mount", "sh", "-c"),
                f'{mount} && exec "$@"',
                *("sh", *command),
            ]
        log = (self.folder / "sshd.log").open("ab")
        self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            assert self._server.poll() is None, (self.folder / "sshd.log").read_text()
            time.sleep(0.1)
        raise AssertionError("sshd does not answer")

    def cut(self) -> None:
        """Break every connection, without a word to either side's programs."""
        assert self._server
        for child in psutil.Process(self._server.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it may end meanwhile
                if "sshd" in child.name():
                    child.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        if self._server is None:
            return
        self.cut()
        self._server.terminate()
        self._server.wait(60)
        self._server = None


def ssh(server: Sshd) -> SshTransport:
    """The way to a server, for someone who types no password."""
    return SshTransport("pi", config=server.config, password=lambda prompt: None)


def _keygen(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
