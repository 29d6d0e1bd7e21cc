"""A real adbd in namespaces of its own: the tests' phone, on no network of this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from testkit import needs

HERE = Path(__file__).parent
PORT = 15555  # beside 5555 to 5585, where adb looks for emulators by itself


class Adbd:
    """The phone. `serial` is its address for AdbTransport, once `adb` on the path reaches it.

    `enter` starts a command on its network: there its forwarded ports are.
    """

    serial = f"127.0.0.1:{PORT}"
    enter: list[str]

    def __init__(self, folder: Path) -> None:
        needs.programs("adb", "adbd", "ip", "mount", "nsenter", "qemu-aarch64", "unshare")
        self.folder = folder
        (folder / "root").mkdir()
        (folder / "bin").mkdir()
        self._outer: subprocess.Popen[bytes] | None = None

    def start(self) -> Adbd:
        log = (self.folder / "adbd.log").open("ab")
        self._outer = subprocess.Popen(
            [
                *("unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork"),
                *("--kill-child", str(HERE / "phone.sh"), str(self.folder / "root"), str(PORT)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        until = time.monotonic() + 60
        while "adbd started" not in self.log():
            assert self._outer.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.1)
        inside = psutil.Process(self._outer.pid).children()[0].pid
        wrapper = self.folder / "bin/adb"
        self.enter = [
            "nsenter",
            "--target",
            str(inside),
            "--user",
            "--preserve-credentials",
            "--net",
        ]
        entered = f"{shlex.join(self.enter)} {shutil.which('adb')}"
        wrapper.write_text(f'#!/bin/sh\nHOME={self.folder} exec {entered} "$@"\n')
        wrapper.chmod(0o755)
        return self

    def log(self) -> str:
        return (self.folder / "adbd.log").read_text(errors="replace")

    def on_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def adb(self, *arguments: str) -> str:
        """What adb says, called as the tests' programs call it."""
        command = [str(self.folder / "bin/adb"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    def cut(self) -> None:
        """Pull the cable: adb loses the phone."""
        self.adb("disconnect", self.serial)

    def stop(self) -> None:
        if self._outer is None:
            return
        self.adb("kill-server")
        self._outer.kill()  # and with it, everything inside
        self._outer.wait(60)
        self._outer = None
