"""What a generation must know of the llama-server that it asks, wherever that runs."""

from __future__ import annotations

from typing import Protocol

from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.log import KVReport
from plm_edge.generate.remote.api import Api


class ServerConnection(Protocol):
    """A running server.

    Attributes:
        api: the client for requests to it.
        n_ctx: tokens of context that one conversation has.
        threads: how many compute.
        kv: type of the KV cache.
        reuse: whether it may keep the cache of a prompt for the next one that begins with it.
    """

    api: Api

    @property
    def n_ctx(self) -> int: ...

    @property
    def threads(self) -> int: ...

    @property
    def kv(self) -> str: ...

    @property
    def reuse(self) -> bool: ...

    @property
    def log(self) -> str:
        """What it has written so far."""
        ...

    def kv_report(self) -> KVReport | None:
        """The size of its KV cache; None if that is not known."""
        ...

    def failure(self) -> PlmEdgeError:
        """The error that says why it ended or does not answer."""
        ...

    def peak_rss(self) -> int:
        """Its peak resident memory, in bytes; 0 if that is not known."""
        ...


class ServedModel(Protocol):
    """What a prompt and its limits need to know of the model that is served."""

    @property
    def chat_template(self) -> str | None: ...

    @property
    def bos(self) -> str: ...

    @property
    def eos(self) -> str: ...

    @property
    def n_ctx_train(self) -> int | None: ...
