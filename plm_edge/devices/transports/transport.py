"""A transport is one small interface to any machine: put, get, run, alive, facts.

Everything is done by POSIX shell commands over one primitive, `_execute`: a command line, its
input, its output as it comes, its exit code. So a file is pushed, resumed and checked in the same
way to a Raspberry Pi, a phone or a folder here, and a new way to reach machines is one method.

Paths on the device are absolute, or relative to the folder where a login there starts.
"""

from __future__ import annotations

import re
import secrets
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plm_edge.devices.transports import failures, files
from plm_edge.devices.transports.failures import DeviceError
from plm_edge.devices.transports.words import quote

if TYPE_CHECKING:
    from plm_edge.devices.facts import Facts

Output = Callable[[bytes], None]
Progress = Callable[[int, int], None]  # bytes done, bytes in all

KILLED, ILLEGAL = 137, 132  # 128 + SIGKILL, 128 + SIGILL
_STARTED = b"plm-edge-pid:"  # begins the line on stderr that names the process to stop
_MARK = "PLM_EDGE_COMMAND"  # the environment variable by which a command's processes are found
_ANSWER_TIME = 20.0  # seconds that a trivial command may take


class TimeUp(Exception):
    """`_execute` ran out of time. Only this package sees it; callers get TimedOut."""


@dataclass(frozen=True)
class CommandResult:
    """How a command ended, and what it printed.

    `exit_code` is the shell's: 128 + n if signal n ended the command. `stdout` and `stderr` are
    empty if a callback took them. `seconds` is wall time, the network included.
    """

    command: str
    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """What it wrote on stdout; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """The last line on stderr; empty if there is none."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""


class Transport(ABC):
    """A machine that takes commands and files. It is a context manager that closes at its end.

    Args:
        name: what errors call it, such as pi@raspberrypi.local.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def _execute(
        self,
        script: str,
        stdin: Iterable[bytes],
        stdout: Output,
        stderr: Output,
        timeout: float | None,
    ) -> int:
        """Run a script by a POSIX shell there; return its exit code, 128 + n for signal n.

        Args:
            script: the shell script.
            stdin: its input.
            stdout, stderr: are called with its output as it comes.
            timeout: seconds; None sets no limit.

        Raises:
            TimeUp: it took too long; what runs there may still run.
            DeviceError: the device cannot be reached, or the connection broke.
        """

    def close(self) -> None:  # noqa: B027 -- most have nothing to close
        """Close the connection; the next use opens it again."""

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def program(self, command: Sequence[str]) -> list[str]:
        """The command line that starts a program there; an emulated device puts qemu before it."""
        return list(command)

    @property
    def here(self) -> bool:
        """Whether the device is this machine, so that both have one loopback."""
        return False

    @contextmanager
    def forward(self, port: int, local: int = 0) -> Iterator[int]:
        """Forward a port of this machine's loopback to one of the device's, while entered.

        Args:
            port: the device's port, on its 127.0.0.1.
            local: the port here; 0 takes any that is free.

        Yields:
            The port here. On this machine (`here`) it is `port` itself.

        Raises:
            PlmEdgeError: the port here is taken.
            DeviceError: the device cannot be reached, or does not forward ports.
        """
        del local
        yield port

    def run(
        self,
        command: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes | Iterable[bytes] = b"",
        timeout: float | None = None,
        on_stdout: Output | None = None,
        on_stderr: Output | None = None,
        check: bool = False,
    ) -> CommandResult:
        """Run one program there to its end.

        Args:
            command: program and arguments.
            cwd: the folder to run it in. None takes the folder where a login starts.
            env: variables to add.
            stdin: its input; without one it reads end-of-file.
            timeout: seconds after which it is stopped. None sets no limit.
            on_stdout, on_stderr: are called with bytes as they come, perhaps in another thread.
            check: raise an error if the exit code is not 0.

        Raises:
            TimedOut, ConnectionLost, Unreachable, NotAllowed, WrongHostKey: see `failures`.
            CommandFailed, OutOfMemory, IllegalInstruction, WrongArchitecture, DiskFull: the command
                failed, and `check` is set.
        """
        words = [f"{name}={value}" for name, value in (env or {}).items()]
        script = "exec " + shlex.join([*(["env", *words] if words else []), *self.program(command)])
        if cwd is not None:
            script = f"cd {quote(cwd)} && {script}"
        return self._finish(
            shlex.join(command), script, stdin, timeout, on_stdout, on_stderr, check
        )

    def shell(
        self,
        script: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        timeout: float | None = None,
        on_stdout: Output | None = None,
        on_stderr: Output | None = None,
        check: bool = False,
    ) -> CommandResult:
        """Run a POSIX shell script there, never in an emulator. The rest is as for `run`."""
        return self._finish(script.strip(), script, stdin, timeout, on_stdout, on_stderr, check)

    def alive(self, timeout: float = _ANSWER_TIME) -> bool:
        """Whether the device answers within `timeout` seconds."""
        try:
            return self.shell("exit 0", timeout=timeout).exit_code == 0
        except DeviceError:
            return False

    def facts(self) -> Facts:
        """What the machine reports of itself.

        Raises:
            DeviceError: it cannot be reached.
        """
        from plm_edge.devices import facts

        return facts.ask(self)

    def put(
        self,
        source: Path,
        target: str,
        *,
        mode: int | None = None,
        progress: Progress | None = None,
        attempts: int = 3,
    ) -> bool:
        """Copy a file to the device.

        A broken transfer is resumed; the file is checked by SHA-256, and appears at `target` only
        when it is whole.

        Args:
            source: a file here.
            target: its path there.
            mode: permissions to give it, such as 0o755.
            progress: is called with bytes done and bytes in all.
            attempts: how often to try before a broken connection is an error.

        Returns:
            Whether it was sent. False means that the same file was there already.

        Raises:
            DiskFull: it does not fit; if the free space is known, no byte was sent.
            ConnectionLost: what arrived stays, and the next put continues there.
            Damaged: what arrived is not what was sent; it was removed.
            PlmEdgeError: `source` cannot be read, or `target` cannot be written.
        """
        return files.push(self, source, target, mode, progress, attempts)

    def get(
        self,
        source: str,
        target: Path,
        *,
        progress: Progress | None = None,
        attempts: int = 3,
    ) -> bool:
        """Copy a file from the device, in the way of `put`.

        Args:
            source: its path there.
            target: the file here.
            progress: is called with bytes done and bytes in all.
            attempts: how often to try before a broken connection is an error.

        Returns:
            Whether it was fetched. False means that the same file was here already.

        Raises:
            DiskFull, ConnectionLost, Damaged: as for `put`.
            PlmEdgeError: there is no such file, or `target` cannot be written.
        """
        return files.pull(self, source, target, progress, attempts)

    def failure(self, done: CommandResult) -> DeviceError | None:
        """The error that says, as well as it is known, why a command failed; None if it did not."""
        if done.exit_code == 0:
            return None
        message = done.stderr.decode(errors="replace")
        if done.exit_code == KILLED:
            return failures.out_of_memory(self.name, done.command, self._kernel_says())
        if done.exit_code == ILLEGAL:
            return failures.illegal_instruction(self.name, done.command)
        if re.search("Exec format error|cannot execute binary file", message):
            return failures.wrong_architecture(self.name, done.command, done.complaint)
        if "No space left on device" in message:
            return failures.disk_full(self.name, ".", 0, None)
        return failures.CommandFailed(
            f"a command failed on {self.name}",
            f"{done.command!r} ended with {done.exit_code}"
            + (f": {done.complaint}" if done.complaint else ""),
            "see what it says above" if done.complaint else "run it there by hand",
        )

    def _kernel_says(self) -> str:
        """The kernel's last log line on a process killed for its memory; empty if there is none."""
        asked = (
            "{ dmesg || journalctl -k -n 200 -o cat; } 2>/dev/null"
            " | grep -iE 'out of memory|oom-kill|killed process' | tail -n 1"
        )
        with suppress(DeviceError):
            return self.shell(asked, timeout=_ANSWER_TIME).text.strip()
        return ""

    def _finish(
        self,
        command: str,
        script: str,
        stdin: bytes | Iterable[bytes],
        timeout: float | None,
        on_stdout: Output | None,
        on_stderr: Output | None,
        check: bool,
    ) -> CommandResult:
        stdout, stderr = bytearray(), bytearray()
        errors = _Stderr(on_stderr or stderr.extend)
        began = time.monotonic()
        mark = secrets.token_hex(8)
        try:
            code = self._execute(
                f'export {_MARK}={mark}; echo "{_STARTED.decode()}$$" >&2; {script}',
                ([stdin] if stdin else []) if isinstance(stdin, bytes) else stdin,
                on_stdout or stdout.extend,
                errors,
                timeout,
            )
        except TimeUp:
            self._stop(errors.pid, mark)
            raise failures.timed_out(self.name, command, timeout or 0) from None
        except KeyboardInterrupt:
            self._stop(errors.pid, mark)
            raise
        errors.flush()
        seconds = time.monotonic() - began
        done = CommandResult(command, code, bytes(stdout), bytes(stderr), seconds)
        error = self.failure(done) if check else None
        if error:
            raise error
        return done

    def _stop(self, pid: int | None, mark: str) -> None:
        """Kill what a command of ours started: its process group, and all that carry its mark.

        The mark finds a command that had no time to say its number; a system without /proc has
        the number alone. A command that has not even begun ends when it says its number, since
        nobody listens.
        """
        script = ""
        if pid is not None:
            # A login shell may be in one group with ours and all that our command started; or our
            # shell led the group, and has ended already.
            script = (
                f"group=$(ps -o pgid= -p {pid} || cut -d' ' -f5 /proc/{pid}/stat);"
                f"kill -s KILL -- -$((${{group:-{pid}}})); kill -s KILL {pid}; "
            )
        # The mark is written in two parts, so that this script does not find itself.
        script += (
            f"for found in $(grep -ls {mark[:8]}''{mark[8:]} /proc/[0-9]*/environ"
            " /proc/[0-9]*/cmdline); do"
            " found=${found#/proc/}; kill -s KILL ${found%/*}; done"
        )
        with suppress(DeviceError, TimeUp):
            self._execute(script, [], _ignore, _ignore, _ANSWER_TIME)


class _Stderr:
    """Passes stderr on without the line that names the process; a login may print before it."""

    def __init__(self, onward: Output) -> None:
        self.pid: int | None = None
        self._onward = onward
        self._held = b""

    def __call__(self, data: bytes) -> None:
        if self.pid is not None:
            self._onward(data)
            return
        self._held += data
        before, marker, after = self._held.partition(_STARTED)
        number, newline, rest = after.partition(b"\n")
        if marker and newline:
            self.pid, self._held = int(number), b""
            if before + rest:
                self._onward(before + rest)

    def flush(self) -> None:
        """Pass on what was held back, if no process was ever named."""
        if self.pid is None and self._held:
            self._onward(self._held)
            self._held = b""


def _ignore(data: bytes) -> None:
    del data
