"""A server, as a source of frames: asked, credited, overruled, and taken up again."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TypeVar

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect
from websockets.uri import WebSocketURI, parse_uri

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.generate.prompt import Prompt
from plm_edge.serve import network
from plm_edge.spa import tls, wire
from plm_edge.spa.plugin import Plugin
from plm_edge.spa.source import LinkLost, NotThere
from plm_edge.spa.wire import Frame

CONNECT_S = 2.4
"""Seconds that each step may take until there is a link: certificate, handshake, first ping."""
STALL_S = 1.2
"""Seconds without a sign of life, after which a link counts as lost."""
SILENT_S = 60.0
"""Seconds for which the server may live and send no frame: it computes others' prompts."""
OPENING_S = 600.0
"""The same, while it computes the prompt."""
RETRY_S = 120.0
_NOBODY = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)
_WAITING = 128  # messages: more than credit allows, so that the end of a link does not wait behind
_MOST = 1 << 18  # bytes of a message: a prompt of 65,000 tokens
Answer = TypeVar("Answer", wire.Opened, wire.Encoded)


class Remote:
    """A server.

    Args:
        url: wss://…; or ws://… of this machine, which may be the end of an ssh -L.
        key: what the server wants.
        fingerprint: of its certificate; wss needs it.
        plugin: whose base and codec the server must have.
        window: most tokens that it computes ahead.
        hasty: a base here goes on at once: until there is a link, no step may take more than
            STALL_S, where else it is CONNECT_S.
        stop: is asked while the server lets wait; True interrupts.

    Attributes:
        up, down: bytes of messages that were sent, and came.
        rtt_s: of the link, when it was opened.

    Raises:
        PlmEdgeError: the address is none, or key and text would be open to the network.
    """

    def __init__(
        self,
        url: str,
        key: str,
        fingerprint: str | None,
        plugin: Plugin,
        *,
        window: int = 32,
        temperature: float = 0.0,
        seed: int = 0,
        hasty: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._hasty, self._stop = hasty, stop
        self._place = _address(url, fingerprint)
        self._url, self._key, self._fingerprint = url, key, fingerprint
        self._shape = plugin.codec.n_states, plugin.codec.width
        self._n_vocab = len(plugin.vocabulary.ends)
        self._names = bytes.fromhex(plugin.base)[:16], bytes.fromhex(plugin.codec.sha256())[:16]
        self._window, self.drawing = window, (temperature, seed)
        self._context: ssl.SSLContext | None = None
        self._link: ClientConnection | None = None
        self._lives = False  # the link, as far as is known
        self._links = ExitStack()
        self._session, self._text, self._first = b"", "", 0
        self._overrides: list[wire.Override] = []
        self._tokens: list[int] = []
        self._credited = 0
        self.length = self.up = self.down = 0
        self.rtt_s = 0.0

    def encode(self, what: int, text: str) -> Prompt:
        """See `Source`."""
        asked = wire.Encode(what, *self._names, text).pack()
        if self._lives:
            with suppress(LinkLost):  # as may be seen only now
                return self._encode(asked)
        self._connect()
        return self._encode(asked)

    def _encode(self, asked: bytes) -> Prompt:
        found = self._ask(asked, wire.Encoded)
        self.length = found.length
        return Prompt(list(found.tokens), found.templated)

    def open(self, text: str, made: Sequence[int]) -> list[int]:
        """See `Source`.

        Raises:
            LinkLost: the server cannot be reached.
            PlmEdgeError: it refuses.
        """
        if self._lives:
            with suppress(LinkLost):
                return self._open(text, made)
        self._connect()
        return self._open(text, made)

    def _open(self, text: str, made: Sequence[int]) -> list[int]:
        self._overrides.clear()
        self._text = text
        asked = wire.Open(self._window, *self.drawing, *self._names, text, tuple(made))
        opened = self._ask(asked.pack(), wire.Opened)
        self._session, self._tokens = opened.session, list(opened.tokens)
        self.length, self._credited = opened.length, len(self._tokens)
        self._first = len(self._tokens) - len(made)
        return list(opened.tokens)

    def resume(self) -> None:
        """Go on where a link was lost; if the server has forgotten the text, it gets it again.

        Raises:
            LinkLost: the server cannot be reached.
            PlmEdgeError: it refuses.
        """
        self._connect()
        epoch, known = len(self._overrides), list(self._tokens)
        asked = wire.Resume(self._window, len(known), self._session, epoch)
        try:
            opened = self._ask(asked.pack(), wire.Opened)
        except PlmEdgeError:
            if self.open(self._text, known[self._first :]) != known:
                raise
            return
        for missed in self._overrides[opened.epoch :]:
            self._send(missed.pack())

    def frame(self, position: int) -> Frame:
        """See `Source`."""
        while True:
            found = self._receive(SILENT_S)
            if isinstance(found, wire.Refused):
                raise _refused(found.why)
            # Others were computed before the server knew of an override.
            if isinstance(found, Frame) and found.epoch == len(self._overrides):
                break
        if found.position != position or not self._fits(found):
            raise _refused("it sends a frame that does not belong here")
        if position - self._credited >= wire.CREDIT_EVERY:
            self._credited = position
            self._send(wire.Credit(position).pack())
        # Last: where the credit finds the link lost, the frame has not come, and comes again.
        self._tokens.append(found.token)
        return found

    def override(self, position: int, token: int) -> None:
        """See `Source`."""
        self._overrides.append(wire.Override(position, token))
        self._tokens[position : position + 1] = [token]
        self._credited = max(self._credited, position)
        self._send(self._overrides[-1].pack())

    def close(self) -> None:
        """See `Source`."""
        self._links.close()

    def _hear_stop(self) -> None:
        if self._stop():
            raise KeyboardInterrupt

    def _connect(self) -> None:
        self._hear_stop()
        if self._link is not None:
            # A link that was lost may not answer: nothing is waited for.
            self._link.close_timeout = 0.1
            self._link.close(1001)
            self._links.close()
        self._lives = False
        patience = STALL_S if self._hasty else CONNECT_S
        try:
            if self._fingerprint and self._context is None:
                place = self._place
                self._context = tls.pinned(place.host, place.port, self._fingerprint, patience)
            opening = connect(
                self._url, ssl=self._context, compression=None, open_timeout=patience,
                additional_headers={"Authorization": f"Bearer {self._key}"}, proxy=None,
                user_agent_header=None, close_timeout=1, max_size=_MOST, max_queue=_WAITING,
            )  # fmt: skip
            self._link = self._links.enter_context(opening)
            if not self.rtt_s:
                self.rtt_s = self._round_trip(self._link, patience)
            self._lives = True
        except ssl.SSLCertVerificationError as error:
            self._context = None  # the next time it is asked for anew, and refused in words
            raise LinkLost(str(error)) from error
        except InvalidStatus as error:
            why = f"it answers {error.response.status_code}"
            if error.response.status_code == 401:
                raise PlmEdgeError(
                    "the server refuses the key", why,
                    "give the server's key with --key-file, or in PLM_EDGE_API_KEY",
                    ExitCode.DEVICE,
                ) from error  # fmt: skip
            raise NotThere(why) from error
        except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError) as error:
            why = str(error) or type(error).__name__
            if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in _NOBODY:
                raise NotThere(why) from error
            raise LinkLost(why) from error

    def _round_trip(self, link: ClientConnection, patience: float) -> float:
        started = time.perf_counter()
        if not link.ping().wait(patience):
            raise LinkLost(f"no sign of life for {patience:g} s")
        return time.perf_counter() - started

    def _ask(self, message: bytes, kind: type[Answer]) -> Answer:
        """Send, and return the answer. Where none is taken, as where a person presses Ctrl-C or it
        is refused, the link ends with that: the next one would find an answer that is not its."""
        self._send(message)
        self._lives = False
        found = self._answer(kind)
        self._lives = True
        return found

    def _answer(self, kind: type[Answer]) -> Answer:
        """Returns the next message of a kind. Frames before it are of a text that is over."""
        while True:
            found = self._receive(OPENING_S)
            if isinstance(found, wire.Refused):
                raise _refused(found.why)
            if isinstance(found, kind):
                if max(found.tokens, default=0) >= self._n_vocab:
                    raise _refused("it sends a token that the base does not have")
                return found

    def _fits(self, frame: Frame) -> bool:
        row = frame.row
        numbers = (row.scales, row.logits, row.rest)
        return (
            row.codes.shape[1:] == self._shape
            and max(frame.token, int(row.ids.max())) < self._n_vocab
            and all(bool(np.isfinite(values).all()) for values in numbers)
        )

    def _receive(self, patience: float) -> wire.Down:
        """Returns the next message.

        Args:
            patience: seconds for which it may not come, while the server lives.
        """
        until = time.monotonic() + patience
        try:
            while (message := self._message()) is None:
                self._hear_stop()
                if time.monotonic() > until:
                    raise LinkLost(f"nothing came for {patience:g} s")
        except (ConnectionClosed, OSError, LinkLost) as error:
            self._lives = False
            raise LinkLost(str(error)) from error
        self.down += len(message)
        if isinstance(message, str):
            raise _refused("it sends text")
        try:
            return wire.parse_down(message)
        except wire.WireError as error:
            raise _refused(str(error)) from error

    def _message(self) -> str | bytes | None:
        """What comes next; None: nothing, but the server lives. Asked by a ping, its end of the
        link answers even while the engine computes."""
        assert self._link is not None
        with suppress(TimeoutError):
            return self._link.recv(STALL_S / 2)
        answered = self._link.ping()
        with suppress(TimeoutError):
            return self._link.recv(STALL_S / 2)
        if answered.is_set():
            return None
        self._link.close_timeout = 0.1  # who does not answer is not waited for
        raise LinkLost(f"no sign of life for {STALL_S:g} s")

    def _send(self, message: bytes) -> None:
        assert self._link is not None
        try:
            self._link.send(message)
        except (ConnectionClosed, OSError) as error:
            self._lives = False
            raise LinkLost(str(error)) from error
        self.up += len(message)


def _address(url: str, fingerprint: str | None) -> WebSocketURI:
    try:
        found = parse_uri(url)
    except (InvalidURI, ValueError) as error:
        raise PlmEdgeError(
            f"{url} is no address of a server",
            "it begins with wss:// or ws://, and names a host",
            "give what plm-edge spa serve printed",
            ExitCode.USAGE,
        ) from error
    if found.secure and not fingerprint:
        raise PlmEdgeError(
            "the server cannot be told from another one",
            "its certificate is its own, and is known by its fingerprint alone",
            "give --fingerprint, which plm-edge spa serve printed",
            ExitCode.USAGE,
        )
    if not found.secure and (fingerprint or not network.is_loopback(found.host)):
        raise PlmEdgeError(
            "the link would not be encrypted",
            "ws:// is for a server on this machine, without a certificate: on a network others "
            "could read key and text",
            "give wss:// and --fingerprint, or forward the server's port to this machine: ssh -L",
            ExitCode.USAGE,
        )
    return found


def _refused(why: str) -> PlmEdgeError:
    return PlmEdgeError(
        "the server does not go on",
        why,
        "if it is not the server's fault: have its base, codec and version, and try again later",
        ExitCode.DEVICE,
    )
