"""A client generates with a server that runs already, as a session would in this process.

server = running.find("7560")[0]
with client.generator(server) as generator:
    request = Request(generator.encode("def add(a, b):", raw=True).tokens, n_predict=32)
    print("".join(generator.generate(request)))
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.log import KVReport
from plm_edge.engine.options import never
from plm_edge.generate.remote.api import Api
from plm_edge.generate.remote.generation import RemoteGenerator
from plm_edge.machine import memory
from plm_edge.model import gguf_file, sizes
from plm_edge.serve import state, trouble
from plm_edge.serve.running import RunningServer

_TEMPLATE = "tokenizer.chat_template"


@dataclass(frozen=True)
class RunningModel:
    """What is known of the model of a running server: a `generate.remote.server.ServedModel`."""

    chat_template: str | None
    bos: str
    eos: str
    n_ctx_train: int | None


class Client:
    """A running server as a `generate.remote.server.ServerConnection`.

    Attributes:
        api: the client for requests to it.
        reuse: it keeps the cache of a prompt for the next one that begins alike.
    """

    reuse = True

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.api = Api(server.port, server.key, server.address)

    @property
    def n_ctx(self) -> int:
        """Tokens of context of a conversation."""
        return self._server.n_ctx

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return self._server.threads

    @property
    def kv(self) -> str:
        """Type of the KV cache."""
        return self._server.kv

    @property
    def log(self) -> str:
        """The end of what it has written."""
        return trouble.tail(self._server.log)

    def kv_report(self) -> KVReport | None:
        """The size of its KV cache, by the model's header; None where that is not here."""
        if self._server.device:
            return None
        shape = sizes.kv_shape(gguf_file.read(Path(self._server.model)))
        if shape is None:
            return None
        size = shape.bytes_per_token(self.kv) * self.n_ctx
        values = 0 if shape.latent else size // 2
        return KVReport(size, size - values, values, self.n_ctx, shape.n_layers, self.kv)

    def failure(self) -> PlmEdgeError:
        """The error that says why it ended or does not answer."""
        time.sleep(0.2)  # its process may not be gone yet when its connection is
        if not self._server.alive:
            return trouble.why_ended(self._server.name, None, self._server.log)
        return PlmEdgeError(
            f"the server of {self._server.name} does not answer",
            f"its process {self._server.pid} runs, and {self._server.url} broke off",
            f"see plm-edge logs {self._server.port}; stop it: plm-edge stop {self._server.port}",
            ExitCode.ENVIRONMENT,
        )

    def peak_rss(self) -> int:
        """Its peak resident memory, in bytes; 0 if the system does not say."""
        return memory.peak_rss_of(self._server.pid)


def generator(server: RunningServer, stop: Callable[[], bool] = never) -> RemoteGenerator:
    """What generates with a running server, as `Generator` has it.

    Args:
        stop: is called often; True interrupts a generation.

    Raises:
        PlmEdgeError: it does not answer.
    """
    began = time.perf_counter()
    return RemoteGenerator(Client(server), model(server), stop, time.perf_counter() - began)


def model(server: RunningServer) -> RunningModel:
    """What is known of the model of a running server.

    Raises:
        PlmEdgeError: it does not answer.
    """
    try:
        props: dict[str, Any] = json.loads(state.get(server, "/props"))
        listed = json.loads(state.get(server, "/v1/models"))["data"][0]["meta"]
    except (OSError, ValueError, KeyError, IndexError):
        raise Client(server).failure() from None
    return RunningModel(
        chat_template=_template(server, props),
        bos=str(props.get("bos_token", "")),
        eos=str(props.get("eos_token", "")),
        n_ctx_train=listed.get("n_ctx_train"),
    )


def _template(server: RunningServer, props: dict[str, Any]) -> str | None:
    """The model's own chat template: the server would say ChatML where the file has none."""
    if server.device:
        return props.get("chat_template")
    found = gguf_file.read(Path(server.model)).keys.get(_TEMPLATE)
    return found if isinstance(found, str) else None
