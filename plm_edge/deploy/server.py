"""A server is llama-server on a device: started, forwarded, watched, and surely ended.

It lives as long as its standard input: when this program ends in whatever way, or the connection
breaks, a watcher beside it there reads the end of it and stops the server.
"""

from __future__ import annotations

import json
import queue
import re
import secrets
import shlex
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import IO

from plm_edge.base.errors import PlmEdgeError
from plm_edge.deploy import trouble
from plm_edge.deploy.place import SERVING, Place
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.transport import CommandResult
from plm_edge.devices.transports.words import quote
from plm_edge.engine.approximations import EXACT_VARIABLE, is_exact
from plm_edge.engine.log import KVReport, read_log
from plm_edge.generate.remote.api import Api
from plm_edge.model.need import N_BATCH
from plm_edge.model.offload import load_mode

_PORT = re.compile(r"listening on http://\S+:(\d+)")
_PID = "plm-edge-server:"
_GRACE = 3  # seconds to end by itself before it is killed
_SCRIPT = """exec 3<&0
read -r LLAMA_API_KEY <&3
[ -z "$LLAMA_API_KEY" ] || export LLAMA_API_KEY
export PLM_EDGE_TELL_ROWS=1
{exact}
{command} </dev/null 3<&- >&2 &
server=$!
echo "{mark}$server" >&2
{note}
(cat <&3; kill $server; sleep {grace}; kill -s KILL $server) >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $server
code=$?
kill $watch 2>/dev/null
{forget}
exit $code"""


@dataclass(frozen=True)
class Settings:
    """How to run a model on a device.

    `program` and `model` are paths there, `n_ctx` is in tokens, `kv` the type of the cache. `port`
    is there; 0 takes any that is free. Each request must send `key`, unless it is empty. `serving`
    writes the server's process number to a file, so that another plm-edge can stop it. After
    `sleep_after` seconds without a request the model leaves the memory; 0 keeps it. `more` are
    further words for llama-server.
    """

    program: str
    model: str
    n_ctx: int
    threads: int
    kv: str = "f16"
    port: int = 0
    key: str = ""
    serving: bool = False
    sleep_after: int = 0
    more: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The command line, word by word."""
        return [
            self.program, "--model", self.model, "--host", "127.0.0.1", "--port", str(self.port),
            "--parallel", "1", "--ctx-size", str(self.n_ctx), "--threads", str(self.threads),
            "--cache-type-k", self.kv, "--cache-type-v", self.kv,
            "--batch-size", str(N_BATCH), "--ubatch-size", str(N_BATCH),
            "--load-mode", load_mode(self.more), "--no-warmup", "--cache-ram", "0",
            "--ctx-checkpoints", "0", "--no-ui", "--offline",
            "--log-colors", "off", "--verbosity", "4",
            "--cors-origins", "localhost", "--sleep-idle-seconds", str(self.sleep_after or -1),
            *self.more,
        ]  # fmt: skip


class Server:
    """One server: a context manager that starts it, waits until it answers, and stops it.

    Args:
        place: our folder on the device.
        settings: without a key, and unless `serving`, a random key is made.
        local_port: its port here; 0 takes any that is free.

    Attributes:
        api: the client for requests to it.
        port: its port here, on 127.0.0.1.
        pid: its process number on the device.
        echo: whether its log goes to stderr here as well.
        log_file: a file here, open for writing, that gets its log; None for none.
    """

    api: Api
    port: int

    def __init__(self, place: Place, settings: Settings, *, local_port: int = 0) -> None:
        self.place = place
        self.transport = place.transport
        self.settings = settings
        if not settings.serving and not settings.key:
            self.settings = replace(settings, key=secrets.token_urlsafe(24))
        self.pid = 0
        self.echo = False
        self.log_file: IO[bytes] | None = None
        self._local_port = local_port
        self._there = 0
        self._lines: deque[str] = deque(maxlen=4000)
        self._partial = ""
        self._input: queue.Queue[bytes | None] = queue.Queue()
        self._changed = threading.Condition()
        self._done: CommandResult | None = None
        self._raised: BaseException | None = None
        self._ended = False
        self._stack = ExitStack()

    @property
    def log(self) -> str:
        """What it has written so far (the last 4,000 lines)."""
        return "\n".join(self._lines)

    @property
    def n_ctx(self) -> int:
        """Tokens of context."""
        return self.settings.n_ctx

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return self.settings.threads

    @property
    def kv(self) -> str:
        """Type of the KV cache."""
        return self.settings.kv

    @property
    def reuse(self) -> bool:
        """Never: a run here and there must compute the same."""
        return False

    def kv_report(self) -> KVReport | None:
        """The size of its KV cache, by its log."""
        return read_log(self.log).kv()

    def peak_rss(self) -> int:
        """Its peak resident memory, in bytes; 0 if the device does not say."""
        done = self.transport.shell(
            f"grep -i VmHWM /proc/{self.pid}/status || ps -o rss= -p {self.pid}", timeout=20
        )
        found = re.search(r"\d+", done.text)
        return int(found[0]) * 1024 if found else 0

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=self._run, name="llama-server", daemon=True)
        self._thread.start()
        try:
            with self._changed:
                while not self._there and not self._ended:
                    self._changed.wait(0.2)  # so that Ctrl-C comes through
            if not self._there:
                raise self.failure()
            self.port = self._stack.enter_context(
                self.transport.forward(self._there, self._local_port)
            )
        except BaseException:
            self.stop()
            raise
        self.api = Api(self.port, self.settings.key)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server, and wait until it has ended."""
        self._input.put(None)
        self._stack.close()
        self._thread.join(_GRACE + 10)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for its end; return whether it has ended."""
        with self._changed:
            if not self._ended:
                self._changed.wait(seconds)
            return self._ended

    def failure(self) -> PlmEdgeError:
        """The error that says, as well as it is known, why it ended or does not answer."""
        self.wait(_GRACE)
        if isinstance(self._raised, PlmEdgeError):
            return self._raised
        if self._raised is not None:
            raise self._raised
        if self._done is None:
            if not self.transport.alive():
                return failures.connection_lost(self.transport.name, "the model ran", "")
            return failures.DeviceError(
                f"the server on {self.transport.name} does not answer",
                "it runs, and its port cannot be reached from here",
                "see whether ssh there forwards ports (AllowTcpForwarding in sshd_config)",
            )
        return trouble.of_server(self.transport, self._done, self.log)

    def _run(self) -> None:
        settings = self.settings
        note = '{"pid": %d}'
        serving = quote(self.place.path(SERVING))
        script = _SCRIPT.format(
            command=shlex.join(self.transport.program(settings.words())),
            mark=_PID,
            exact=f"export {EXACT_VARIABLE}=1" if is_exact() else ":",
            grace=_GRACE,
            note=f"printf {shlex.quote(note)} $server > {serving}" if settings.serving else ":",
            forget=f"rm -f {serving}" if settings.serving else ":",
        )
        try:
            self._done = self.transport.shell(
                script, stdin=self._stdin(), on_stdout=self._listen, on_stderr=self._listen
            )
        except BaseException as error:
            self._raised = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _stdin(self) -> Iterator[bytes]:
        yield f"{self.settings.key}\n".encode()
        while (data := self._input.get()) is not None:
            yield data

    def _listen(self, data: bytes) -> None:
        text = data.decode(errors="replace")
        if self.echo:
            with suppress(OSError):
                sys.stderr.write(text)
        if self.log_file is not None:
            with suppress(OSError, ValueError):
                self.log_file.write(data)
                self.log_file.flush()
        *whole, self._partial = (self._partial + text).split("\n")
        for line in whole:
            self._lines.append(line)
            if line.startswith(_PID):
                self.pid = int(line.removeprefix(_PID))
            elif found := _PORT.search(line):
                with self._changed:
                    self._there = int(found[1])
                    self._changed.notify_all()


def stop_serving(place: Place) -> bool:
    """Stop the server that `serve --device` runs on a device.

    Returns:
        Whether there was one.

    Raises:
        DeviceError: the device cannot be reached.
    """
    pid = serving_pid(place)
    if pid is None:
        return False
    place.transport.shell(f"""kill {pid}
for turn in 1 2 3 4 5 6; do kill -0 {pid} 2>/dev/null || break; sleep 0.5; done
kill -s KILL {pid} 2>/dev/null
rm -f {quote(place.path(SERVING))}""")
    return True


def serving_pid(place: Place) -> int | None:
    """The process number of the server that `serve --device` runs there; None if there is none.

    A file that outlived its server is removed.

    Raises:
        DeviceError: the device cannot be reached.
    """
    text = place.read(SERVING)
    if text is None:
        return None
    try:
        pid = int(json.loads(text)["pid"])
    except (ValueError, KeyError, TypeError):
        pid = 0
    # Another process may have the number by now: only one that runs llama-server counts.
    done = place.transport.shell(
        f"{{ tr '\\0' ' ' < /proc/{pid}/cmdline || ps -p {pid} -o args=; }} 2>/dev/null"
        " | grep -q llama-server"
    )
    if pid > 0 and done.exit_code == 0:
        return pid
    place.drop(SERVING)
    return None


def program_of(paths: Sequence[str]) -> str:
    """The path of llama-server among the paths of an engine's files."""
    return next(path for path in paths if path.rsplit("/", 1)[-1] == "llama-server")
