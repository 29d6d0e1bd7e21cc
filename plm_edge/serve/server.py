"""A local server is llama-server on this machine: started, waited for, watched, and surely ended.

    with LocalServer.start(settings, program.find_or_build()) as server:
        print(server.running.url)
        server.wait()

It holds a pipe that ends with this program: however that ends, the server ends with it
(vendor/llama.cpp/overlay/tools/server/plm-lifeline.h). A detached one has none.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from plm_edge.base import files, folders
from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.options import never
from plm_edge.serve import keys, running, trouble
from plm_edge.serve.running import RunningServer
from plm_edge.serve.settings import Settings

_PORT = re.compile(r"listening on http://\S+:(\d+)")
_LOOK = 0.05  # seconds between looks at the log while it loads
GRACE = 8.0  # seconds to end by itself before it is killed


class LocalServer:
    """One server that answers; a context manager that stops it.

    Attributes:
        settings: with the port that it has.
        running: what others read about it.
    """

    settings: Settings
    running: RunningServer

    def __init__(self, settings: Settings, program: Path, *, detached: bool) -> None:
        self.settings = settings
        made = folders.ensure(running.folder(), "PLM_EDGE_DATA_DIR")
        self._log = made / f"new-{secrets.token_hex(4)}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(os.open(self._log, flags, files.PRIVATE), "wb") as log:
            self._process = subprocess.Popen(
                settings.words(program),
                stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(detached, settings),
                start_new_session=True,  # Ctrl-C is for this program, which stops the server
            )

    @classmethod
    def start(
        cls,
        settings: Settings,
        program: Path,
        *,
        detached: bool = False,
        stop: Callable[[], bool] = never,
    ) -> LocalServer:
        """Start a server and wait until it answers.

        Args:
            program: llama-server.
            detached: it outlives this program.
            stop: is asked often; True gives up.

        Raises:
            PlmEdgeError: it ended; the error says why.
            KeyboardInterrupt: `stop` said True.
        """
        server = cls(settings, program, detached=detached)
        try:
            port = server._wait_for_port(stop)
            server._register(port, detached)
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def log(self) -> str:
        """The end of what it wrote."""
        return trouble.tail(self._log)

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def stopped(self) -> bool:
        """Whether somebody stopped it: `plm-edge stop` does, and the end of a session."""
        return self._process.poll() in (0, -signal.SIGTERM)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end, at most `seconds`; return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.ended()

    def failure(self) -> PlmEdgeError:
        """The error that says why it ended."""
        self.wait(GRACE)
        return trouble.why_ended(self.settings.name, self._process.poll(), self._log)

    def stop(self) -> None:
        """End it and wait until it has ended; what was known of it is removed, but for its log."""
        end(self._process.pid, wait=self.wait)
        if self._process.stdin:
            self._process.stdin.close()
        if hasattr(self, "running"):
            running.forget(self.running)
        else:
            keys.drop(self.settings.key_file)

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _wait_for_port(self, stop: Callable[[], bool]) -> int:
        while True:
            ended = self.ended()
            if found := _PORT.search(trouble.tail(self._log)):
                return int(found[1])
            if ended:
                self._log = self._log.replace(running.folder() / "failed.log")
                raise self.failure()
            if stop():
                raise KeyboardInterrupt
            time.sleep(_LOOK)

    def _register(self, port: int, detached: bool) -> None:
        """Name log and key file after the port, and let others know."""
        log, key = running.log_file(port), self.settings.key_file
        with contextlib.suppress(OSError):
            log.replace(log.with_suffix(".log.1"))
        self._log.replace(log)
        self._log = log
        if key is not None:
            key = keys.name_after(key, port)
        self.settings = replace(self.settings, port=port, key_file=key)
        self.running = RunningServer(
            pid=self._process.pid,
            born=running.birth(self._process.pid),
            port=port,
            host=self.settings.host,
            name=self.settings.name,
            model=str(self.settings.model),
            n_ctx=self.settings.n_ctx,
            threads=self.settings.threads,
            kv=self.settings.kv,
            key_file=str(key or ""),
            log_file=str(log),
            since=time.time(),
            detached=detached,
        )
        running.add(self.running)


def end(pid: int, *, wait: Callable[[float], bool], grace: float = GRACE) -> None:
    """End a process: politely, and later not.

    Args:
        wait: waits at most so many seconds, and says whether it has ended.
        grace: seconds until it is ended by force.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if wait(0):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if wait(grace):
            return


def stop(server: RunningServer) -> None:
    """Stop a server that another plm-edge started, and forget it."""

    def wait(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while server.alive and time.monotonic() < until:
            time.sleep(_LOOK)
        return not server.alive

    # one on a device waits itself for the server there, which may be slow
    end(server.pid, wait=wait, grace=4 * GRACE if server.device else GRACE)
    running.forget(server)


def _environment(detached: bool, settings: Settings) -> dict[str, str]:
    """Ours without what would set the server's options behind our back, and without a key."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LLAMA_", "PLM_EDGE_API_KEY", "PLM_EDGE_PROMPT_CACHE_"))
    }
    kept["PLM_EDGE_MODEL_ALIASES"] = "\n".join(settings.aliases)
    if settings.prompts is not None:
        kept |= settings.prompts.environment()
    return kept if detached else kept | {"PLM_EDGE_LIFELINE": "stdin"}
