"""This transport reaches a machine by ssh, as the user's ssh config says.

asyncssh speaks the protocol, in a thread of its own; host keys are verified against the user's
known_hosts, and nothing is ever added to it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import getpass
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from plm_edge.base.errors import PlmEdgeError
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.transport import Output, TimeUp, Transport

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")
_HOST = re.compile(r"^(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]]+\]|[^@:\s]+)(?::(?P<port>\d+))?$")
CONNECT_TIME = 15.0  # seconds until a host that does not answer is unreachable
_SIGN_OF_LIFE = 5  # seconds between keep-alive messages; three without an answer end the connection
_TRIES = 3  # how often a password may be typed
_SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "SEGV": 11,
            "PIPE": 13, "ALRM": 14, "TERM": 15}  # fmt: skip


def ask_password(prompt: str) -> str | None:
    """Ask the person at the terminal for a password; None if there is no terminal."""
    return getpass.getpass(prompt) if sys.stdin.isatty() and sys.stderr.isatty() else None


class SshTransport(Transport):
    """A machine that is reached by one ssh connection, opened at first use and after each break.

    Args:
        host: [USER@]HOST[:PORT]; HOST may be a name of the user's ssh config.
        config: the file to read instead of the user's ssh config.
        password: is called if the host wants a password; it may return None to give up.

    Raises:
        PlmEdgeError: `host` has another form.
    """

    def __init__(
        self,
        host: str,
        *,
        config: Path | None = None,
        password: Callable[[str], str | None] = ask_password,
    ) -> None:
        super().__init__(host)
        found = _HOST.match(host)
        if not found or host.startswith("-") or not 0 < int(found["port"] or 22) < 1 << 16:
            raise PlmEdgeError(
                f"{host!r} is no ssh address",
                "it does not have the form [USER@]HOST[:PORT], with a PORT up to 65535",
                "write it as pi@raspberrypi.local",
            )
        self._host = found["host"].strip("[]")
        self._options: dict[str, Any] = {}
        if found["user"]:
            self._options["username"] = found["user"]
        if found["port"]:
            self._options["port"] = int(found["port"])
        if config:
            self._options["config"] = [str(config)]
        self._password = password
        self._given: str | None = None  # the password that worked or is being tried
        self._connection: asyncssh.SSHClientConnection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._key_seen: tuple[str, str, int, str] | None = None

    def close(self) -> None:
        loop, connection = self._loop, self._connection
        self._loop = self._connection = None
        if loop is None:
            return
        if connection:
            connection_ = connection

            async def end() -> None:
                connection_.abort()
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(connection_.wait_closed(), 2)

            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(end(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)

    @contextlib.contextmanager
    def forward(self, port: int, local: int = 0) -> Iterator[int]:
        self._connect()
        try:
            listener = self._wait(self._listen(port, local))
        except OSError as error:
            raise failures.port_taken(local, _reason(error)) from error
        try:
            yield listener.get_port()
        finally:
            if self._loop:
                self._wait(self._close(listener))  # no new connections from here on

    async def _listen(self, port: int, local: int) -> asyncssh.SSHListener:
        assert self._connection
        return await self._connection.forward_local_port("127.0.0.1", local, "127.0.0.1", port)

    async def _close(self, listener: asyncssh.SSHListener) -> None:
        listener.close()

    def _execute(
        self,
        script: str,
        stdin: Iterable[bytes],
        stdout: Output,
        stderr: Output,
        timeout: float | None,
    ) -> int:
        self._connect()
        # The login shell may be any shell, so it gets only two plain words and a quoted one.
        command = f"sh -c {shlex.quote(script)}"
        return self._wait(self._command(command, stdin, stdout, stderr, timeout))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the connection's thread, and wait for it here."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(
                target=_serve, args=(self._loop,), name=f"ssh {self.name}", daemon=True
            ).start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise failures.connection_lost(self.name, "a command ran", "") from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    async def _command(
        self,
        command: str,
        stdin: Iterable[bytes],
        stdout: Output,
        stderr: Output,
        timeout: float | None,
    ) -> int:
        import asyncssh

        assert self._connection
        try:
            process = await self._connection.create_process(command, encoding=None)
            sending = asyncio.ensure_future(_feed(process, stdin))
            reading = [
                asyncio.ensure_future(_drain(process.stdout, stdout)),
                asyncio.ensure_future(_drain(process.stderr, stderr)),
            ]
            try:
                await asyncio.wait_for(asyncio.gather(*reading, process.wait_closed()), timeout)
                if sending.done():
                    sending.result()  # raises the error, if reading the input failed
            except asyncio.TimeoutError:
                raise TimeUp from None
            finally:
                for task in (sending, *reading):
                    task.cancel()
                process.close()
        except (asyncssh.Error, OSError) as error:
            raise self._lost(str(error)) from error
        if process.exit_signal:
            return 128 + _SIGNALS.get(process.exit_signal[0], 9)
        if process.exit_status is None:
            raise self._lost("")
        return process.exit_status

    def _lost(self, why: str) -> failures.ConnectionLost:
        connection, self._connection = self._connection, None
        if connection:
            connection.abort()
        return failures.connection_lost(self.name, "a command ran", why)

    def _connect(self) -> None:
        """Open the connection, unless it is open.

        Raises:
            Unreachable: the host does not answer.
            NotAllowed: it accepts no key and no password, or the ssh settings are broken.
            WrongHostKey: its key is unknown, or has changed.
        """
        if self._connection and not self._connection.is_closed():
            return
        import asyncssh

        self._key_seen = None
        try:
            self._connection = self._wait(self._open())
        except asyncssh.HostKeyNotVerifiable as error:
            raise self._wait(self._wrong_key(str(error))) from error
        except asyncssh.KeyExchangeFailed as error:
            raise self._wait(self._wrong_key(str(error))) from error
        except asyncssh.PermissionDenied as error:
            self._given = None
            raise failures.NotAllowed(
                f"{self.name} does not let us in",
                f"no key of yours and no password was accepted ({error.reason})",
                f"try `ssh {self._words()}`; install your key with ssh-copy-id {self._words()}",
            ) from error
        except (asyncssh.KeyImportError, asyncssh.ConfigParseError) as error:
            raise failures.NotAllowed(
                f"{self.name} cannot be reached with these ssh settings",
                str(error),
                "see ~/.ssh/config and the keys it names; keys with a passphrase go to ssh-agent",
            ) from error
        except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
            raise failures.Unreachable(
                f"{self.name} cannot be reached",
                _reason(error),
                f"is it on, in this network, with ssh enabled? try `ssh {self._words()}`",
            ) from error

    async def _open(self) -> asyncssh.SSHClientConnection:
        import asyncssh

        return await asyncio.wait_for(
            asyncssh.connect(
                self._host,
                client_factory=_client(self),
                keepalive_interval=_SIGN_OF_LIFE,
                keepalive_count_max=3,
                **self._options,
            ),
            # At a terminal a person may be typing a password.
            None if sys.stdin.isatty() else CONNECT_TIME,
        )

    async def _wrong_key(self, message: str) -> failures.WrongHostKey:
        """The error for a key that is not trusted: never seen, or changed."""
        import asyncssh

        host, address, port, print_ = self._key_seen or (self._host, "", 0, "")
        name = host if port in (0, 22) else f"[{host}]:{port}"
        changed = not self._key_seen
        with contextlib.suppress(Exception):
            own = Path("~/.ssh/config").expanduser()  # connect() reads it, this call does not
            settings = {"config": [str(own)] if own.is_file() else [], **self._options}
            options = await asyncssh.SSHClientConnectionOptions.construct(
                host=self._host, **settings
            )
            files = options.known_hosts or str(Path("~/.ssh/known_hosts").expanduser())
            keys, authorities, *_ = asyncssh.match_known_hosts(files, host, address, port)
            changed = bool(keys or authorities)
        if changed:
            return failures.WrongHostKey(
                f"{self.name} shows another host key than before",
                f"known_hosts has another one than {print_ or 'those it offers'} ({message}): it "
                "was reinstalled, or something else answers in its place",
                f"if you know why: ssh-keygen -R {shlex.quote(name)}, then ssh {self._words()}",
            )
        return failures.WrongHostKey(
            f"{self.name} is not known yet",
            f"its host key {print_} is not in known_hosts",
            f"connect once with `ssh {self._words()}` and compare the key, then try again",
        )

    def _words(self) -> str:
        """The arguments with which OpenSSH's ssh reaches the host."""
        user = self._options.get("username")
        words = f"{user}@{self._host}" if user else self._host
        port = self._options.get("port")
        return f"-p {port} {words}" if port else words


def _client(owner: SshTransport) -> Callable[[], asyncssh.SSHClient]:
    import asyncssh

    class Client(asyncssh.SSHClient):
        """Remembers the key of an untrusted host, and asks for a password."""

        asked = 0

        def validate_host_public_key(
            self, host: str, addr: str, port: int, key: asyncssh.SSHKey
        ) -> bool:
            owner._key_seen = (host, addr, port, key.get_fingerprint())
            return False

        async def password_auth_requested(self) -> str | None:
            if self.asked == _TRIES:
                return None
            if owner._given is None or self.asked:
                loop = asyncio.get_running_loop()
                prompt = f"password of {owner.name}: "
                owner._given = await loop.run_in_executor(None, owner._password, prompt)
            self.asked += 1
            return owner._given

    return Client


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _feed(process: asyncssh.SSHClientProcess[bytes], data: Iterable[bytes]) -> None:
    chunks, loop = iter(data), asyncio.get_running_loop()
    # The command may end before it has read everything.
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        # The next chunk may take a while to come, and the connection must be served meanwhile.
        while (chunk := await loop.run_in_executor(None, next, chunks, None)) is not None:
            process.stdin.write(chunk)
            await process.stdin.drain()
        process.stdin.write_eof()


async def _drain(stream: asyncssh.SSHReader[bytes], onward: Output) -> None:
    while data := await stream.read(64 * 1024):
        onward(data)


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer in {CONNECT_TIME:g} s"
    if isinstance(error, OSError) and error.errno:
        # asyncio says "Multiple exceptions: …" for several addresses of one name
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error) or type(error).__name__
