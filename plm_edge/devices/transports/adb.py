"""This transport reaches an Android phone by the system's adb."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from plm_edge.base.errors import ExitCode
from plm_edge.devices.transports import failures, process
from plm_edge.devices.transports.transport import Output, Transport

_NETWORK = re.compile(r"^(.+):(\d+)$")
_LOST = re.compile(
    rb"^(?:error|adb): (?:.*\b(?:closed|offline|device .*not found|no devices|protocol fault"
    rb"|connection reset).*)$",
    re.MULTILINE,
)
_ENDED = b"plm-edge-end:"
_TIME = 20.0  # seconds that adb itself may take to answer
_DEVELOPER = (
    "turn on developer options and USB debugging, and accept this computer's key on its screen"
)


class AdbTransport(Transport):
    """A phone that is reached by `adb shell`.

    Args:
        serial: the phone's, as `adb devices` prints it; or host:port, to which adb connects first.
            None takes the only phone there is.
    """

    def __init__(self, serial: str | None = None) -> None:
        super().__init__(serial or "the phone")
        self.serial = serial
        self._ready = False

    def _execute(
        self,
        script: str,
        stdin: Iterable[bytes],
        stdout: Output,
        stderr: Output,
        timeout: float | None,
    ) -> int:
        if not self._ready:
            self._find()
        errors = _Stderr(stderr)
        assert self.serial
        # adb exits with 0 even when it loses the phone: only this line proves the command's end.
        script = f'({script}); code=$?; echo "{_ENDED.decode()}$code" >&2; exit $code'
        command = [_adb(), "-s", self.serial, "shell", "-T", script]
        code = process.execute(command, stdin, stdout, errors, timeout)
        if not errors.ended():
            lost = _LOST.search(bytes(errors.first))
            if code == 0 or lost or _state(self.serial) != "device":
                self._ready = False
                why = lost[0].decode(errors="replace") if lost else "adb sees it no more"
                raise failures.connection_lost(self.name, "a command ran", why)
        return code

    @contextmanager
    def forward(self, port: int, local: int = 0) -> Iterator[int]:
        if not self._ready:
            self._find()
        assert self.serial
        answer = _call("-s", self.serial, "forward", f"tcp:{local}", f"tcp:{port}").strip()
        chosen = answer if answer.isdigit() else str(local)
        if "error" in answer or chosen == "0":
            raise failures.port_taken(local, answer or "adb did not say which port it took")
        try:
            yield int(chosen)
        finally:
            with suppress(failures.Unreachable):
                _call("-s", self.serial, "forward", "--remove", f"tcp:{chosen}")

    def close(self) -> None:
        self._ready = False

    def _find(self) -> None:
        """Choose the phone, and check that it lets us in.

        Raises:
            Unreachable: there is no such phone, or it does not answer.
            NotAllowed: it has not accepted this computer's key.
            DeviceError: there are several phones.
        """
        if self.serial and _NETWORK.match(self.serial):
            _call("connect", self.serial)
        known = _devices()
        if self.serial is None:
            if len(known) > 1:
                raise failures.DeviceError(
                    "there are several phones",
                    f"adb sees {', '.join(known)}",
                    "say which: --host SERIAL",
                )
            self.serial = next(iter(known), None)
        if self.serial is None or self.serial not in known:
            raise failures.Unreachable(
                f"there is no phone {self.serial}" if self.serial else "there is no phone",
                f"adb sees {', '.join(known) or 'none'}",
                f"connect it, {_DEVELOPER}",
            )
        self.name = self.serial
        state = known[self.serial]
        if state == "unauthorized":
            raise failures.NotAllowed(
                f"{self.serial} does not let this computer in",
                "the phone has not accepted this computer's key (unauthorized)",
                "unlock it and accept the question on its screen, then try again",
            )
        if state != "device":
            raise failures.Unreachable(
                f"{self.serial} does not answer",
                f"adb calls it {state!r}",
                "unplug it and plug it in again, or adb reconnect",
            )
        self._ready = True


class _Stderr:
    """Passes stderr on without the line that marks the end of a command."""

    def __init__(self, onward: Output) -> None:
        self.first = bytearray()  # adb's own errors stand at the beginning
        self._onward = onward
        self._held = b""

    def __call__(self, data: bytes) -> None:
        self.first.extend(data[: 4096 - len(self.first)])
        self._held += data
        place = self._held.find(_ENDED)
        if place < 0:  # hold back what may be the beginning of the mark
            sizes = range(min(len(_ENDED), len(self._held)), 0, -1)
            waits = next((n for n in sizes if _ENDED.startswith(self._held[-n:])), 0)
            place = len(self._held) - waits
        if place:
            self._onward(self._held[:place])
            self._held = self._held[place:]

    def ended(self) -> bool:
        """Whether the mark has come; if not, what was held back is passed on."""
        if self._held.startswith(_ENDED):
            return True
        if self._held:
            self._onward(self._held)
        return False


def _adb() -> str:
    found = shutil.which("adb")
    if found is None:
        raise failures.Unreachable(
            "a phone cannot be reached without adb",
            "adb is not on the path",
            "install it (Debian: apt install adb; macOS: brew install android-platform-tools)",
            ExitCode.ENVIRONMENT,
        )
    return found


def _call(*arguments: str) -> str:
    """Run adb, and return what it prints.

    Raises:
        Unreachable: it is missing, or does not answer.
    """
    try:
        done = subprocess.run(
            [_adb(), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIME,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise failures.Unreachable(
            "adb does not answer", str(error), "adb kill-server, then try again"
        ) from error
    return done.stdout + done.stderr


def _devices() -> dict[str, str]:
    """The state of each phone that adb knows, by serial."""
    rows = [line.split() for line in _call("devices").splitlines() if "\t" in line]
    return {serial: state for serial, state, *_ in rows}


def _state(serial: str) -> str:
    try:
        return _call("-s", serial, "get-state").strip()
    except failures.Unreachable:
        return ""
