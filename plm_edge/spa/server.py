"""The server of a base: WebSockets, many texts at once, each computed ahead of its device.

A thread drives the engine, all texts in one batch, a row each; frames are made and sent beside it,
while it computes the next rows. Rows that overrides make void are given up on the way, if all of a
batch are. A device that says nothing takes the base's tokens. Its credit bounds what is computed,
and what waits to be sent, beyond what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.spa import wire
from plm_edge.spa.base import TOGETHER, Base, Dropped
from plm_edge.spa.frame import Logits, Rows
from plm_edge.spa.served import Served
from plm_edge.spa.wire import Frame

KEPT_S = 120.0
"""Seconds for which a session outlives its link."""
FIRST_S = 30.0
"""Seconds after which a link on which nothing was said is ended."""
ANSWER_S = 2.4
"""Seconds in which a device answers a ping, when its text's place is wanted for another one."""
WINDOWS = (4, 64)
MOST_ROWS = 64
"""Rows of a text after which the driver looks at what else there is."""


@dataclass
class Session:
    """A device's text, and how it is reached.

    Attributes:
        name: by which it is resumed.
        allowed: the first position that is not computed yet for want of credit.
        orders: what the device said and the driver has not done; at most the window's.
        link: None while it is lost; since when, in `lost`.
    """

    name: bytes
    text: Served
    window: int
    allowed: int
    link: ServerConnection | None
    orders: list[wire.Override] = field(default_factory=list)
    outbox: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    lost: float = 0.0

    def credit(self, position: int) -> None:
        """The device has all before this position."""
        self.allowed = max(self.allowed, position + wire.CREDIT_EVERY + self.window)


class SpaServer:
    """Serves a base. Use `start`, and `close`.

    Args:
        base: with a codec, loaded with as many sequences as `texts`.
        base_hash: SHA-256 of its file.
        key: that devices must send.
        texts: most at once.
        length: most tokens of a text.
    """

    def __init__(self, base: Base, base_hash: str, key: str, *, texts: int, length: int) -> None:
        assert base.codec is not None
        self._base, self._key, self._length = base, key, length
        self._base_name = bytes.fromhex(base_hash)[:16]
        self._codec_name = bytes.fromhex(base.codec.sha256())[:16]
        self._free = list(range(texts))
        self._sessions: dict[bytes, Session] = {}
        self._work = asyncio.Event()
        self._engine = asyncio.Lock()
        self._ending = 0  # sessions that are forgotten, and hold their sequence still
        self._wanting = 0  # who waits for the engine, the driver not counted
        self._server: Server | None = None
        self._driver: asyncio.Task[None] | None = None
        self.port = 0
        self._computing: list[Session] = []  # whose rows the engine computes
        self._void = base.flag()
        # rows, those beyond an override included; and those that were given up on the way
        self.computed = self.dropped = 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Listen.

        Args:
            port: 0 takes a free one; `self.port` says which.

        Raises:
            PlmEdgeError: the port cannot be had.
        """
        try:
            self._server = await serve(
                self._serve, host, port, ssl=tls, process_request=self._check_key,
                compression=None, max_size=wire.MOST_TEXT, max_queue=16,
            )  # fmt: skip
        except OSError as error:
            raise PlmEdgeError(
                f"the server cannot listen on {host}:{port}",
                str(error.strerror or error),
                "give another --port, or stop what has it",
                ExitCode.ENVIRONMENT,
            ) from error
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        self._driver = asyncio.create_task(self._drive())

    async def run(self) -> None:
        """Serve until the driver fails or this is cancelled."""
        assert self._driver is not None
        await asyncio.shield(self._driver)

    async def close(self) -> None:
        """End all links, and stop."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        if self._driver is not None:
            async with self._alone():  # no thread computes now
                self._driver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._driver

    def _check_key(self, connection: ServerConnection, request: Request) -> Response | None:
        given = request.headers.get_all("Authorization")
        # the header's bytes, which may be any
        raw = given[0].encode("latin-1", "surrogateescape") if len(given) == 1 else b""
        if hmac.compare_digest(raw, f"Bearer {self._key}".encode()):
            return None
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "the key is wrong\n")

    # A link

    async def _serve(self, link: ServerConnection) -> None:
        session: Session | None = None
        sender: asyncio.Task[None] | None = None
        try:
            said = wire.parse_up(_binary(await asyncio.wait_for(link.recv(), FIRST_S)))
            while isinstance(said, wire.Encode):
                await link.send(self._encode(said).pack())
                said = wire.parse_up(_binary(await link.recv()))
            if isinstance(said, wire.Open):
                session = await self._open(said, link)
            elif isinstance(said, wire.Resume):
                session = self._take_up(said, link)
                await self._rewind(session, said, link)
            else:
                raise wire.WireError("a text must be opened first")
            sender = asyncio.create_task(_send(link, session.outbox))
            self._work.set()
            async for message in link:
                if session.link is not link:  # what waited here was said before it was lost
                    break
                said = wire.parse_up(_binary(message))
                if isinstance(said, wire.Encode):
                    await link.send(self._encode(said).pack())
                elif isinstance(said, wire.Open):
                    await self._begin_again(session, said)
                else:
                    self._obey(session, said)
        except (wire.WireError, PlmEdgeError) as error:
            why = error.why if isinstance(error, PlmEdgeError) else str(error)
            with contextlib.suppress(ConnectionClosed):
                await link.send(wire.Refused(why).pack())
        except (ConnectionClosed, asyncio.TimeoutError):
            pass
        finally:
            if sender is not None:
                sender.cancel()
            if session is not None and session.link is link:
                session.link, session.lost = None, time.monotonic()
                if link.close_code == 1000:  # the device has what it wanted
                    await self._forget(session)

    def _obey(self, session: Session, said: wire.Up) -> None:
        if isinstance(said, wire.Credit):
            if said.position > len(session.text.tokens):
                raise wire.WireError("credit for what was not sent")
            session.credit(said.position)
        elif isinstance(said, wire.Override):
            if not session.text.allows(said.position, said.token):
                raise wire.WireError("an override of what was not sent")
            if len(session.orders) >= session.window:
                raise wire.WireError("more overrides than frames")
            session.orders.append(said)
            session.credit(said.position)
            if all(each.orders for each in self._computing):
                self._void.set()
        else:
            raise wire.WireError("this link has a text already")
        self._work.set()

    def _require_same(self, said: wire.Open | wire.Encode) -> None:
        if said.base != self._base_name:
            raise wire.WireError("the plugin is for another base than this server's")
        if said.codec != self._codec_name:
            raise wire.WireError("the plugin was made with another codec than this server's")

    def _encode(self, said: wire.Encode) -> wire.Encoded:
        self._require_same(said)
        try:
            found = self._base.encode(said.what, said.text)
        except ValueError as error:
            raise wire.WireError(f"a conversation that is none: {error}") from error
        return wire.Encoded(found.templated, self._length, tuple(found.tokens))

    def _prompt(self, said: wire.Open) -> list[int]:
        self._require_same(said)
        own = self._base.session.vocabulary
        prompt = list(said.tokens)
        if said.text or not prompt:
            prompt = [*own.tokenize(said.text), *prompt]
        if not prompt or len(prompt) >= self._length:
            raise wire.WireError(
                f"the prompt has {len(prompt)} tokens, and a text has 1 to {self._length - 1}"
            )
        if not all(0 <= token < own.n_tokens for token in said.tokens):
            raise wire.WireError("a token that the base does not have")
        return prompt

    async def _open(self, said: wire.Open, link: ServerConnection) -> Session:
        prompt = self._prompt(said)
        await self._make_room()
        text = Served(self._base, self._free.pop(), prompt, said.temperature, said.seed)
        session = Session(b"", text, 0, 0, link)
        await self._begin(session, text, said)
        return session

    async def _begin_again(self, session: Session, said: wire.Open) -> None:
        """Put another text in the place of a session's, which its device has done with."""
        prompt, old = self._prompt(said), session.text
        del self._sessions[session.name]  # nobody computes or resumes it meanwhile
        text = Served(
            self._base, old.sequence, prompt, said.temperature, said.seed, known=old.tokens
        )
        await self._begin(session, text, said)
        self._work.set()

    async def _begin(self, session: Session, text: Served, said: wire.Open) -> None:
        """Make a text a session's, and compute its prompt."""
        async with self._alone():  # rows of the text before are not taken for this one's
            session.name, session.text = secrets.token_bytes(wire.SESSION), text
            session.window, session.allowed = _window(said.window), 0  # no row before its credit
            self._drop_frames(session)
            session.orders.clear()
            self._sessions[session.name] = session
        try:
            more = True
            while more:  # a part at a time: the other texts go on in between
                async with self._alone():
                    if session.link is None or session.link.state is not State.OPEN:
                        raise wire.WireError("the link was lost")
                    more = await asyncio.to_thread(text.fill)
        except Exception:
            await self._forget(session)
            raise
        session.credit(text.first)
        opened = wire.Opened(text.first, 0, self._length, session.name, tuple(text.tokens))
        session.outbox.put_nowait(opened.pack())

    def _take_up(self, said: wire.Resume, link: ServerConnection) -> Session:
        """Give a session another link. There is no wait in it: nobody forgets the session between
        its being found and its being taken."""
        session = self._sessions.get(said.session)
        if session is None:
            raise wire.WireError("the session is over")
        before, session.link = session.link, link
        if before is not None:  # the device gave it up, and it may never answer
            before.transport.abort()
        return session

    async def _rewind(self, session: Session, said: wire.Resume, link: ServerConnection) -> None:
        async with self._alone():
            if session.link is not link:
                raise wire.WireError("the session was taken up by another link")
            self._apply(session)
            text = session.text
            if said.epoch < text.epoch or not text.rewind(said.position):
                raise wire.WireError("the session is not where the device says")
            # What was computed for the lost link is made again from the device's position on.
            session.outbox, session.window = asyncio.Queue(), _window(said.window)
            session.credit(said.position)
            opened = wire.Opened(said.position, text.epoch, self._length, session.name, ())
            session.outbox.put_nowait(opened.pack())

    async def _make_room(self) -> None:
        """Have a free sequence: of lost sessions the one that was lost first gives way."""
        while not self._free:
            lost = [s for s in self._sessions.values() if s.link is None]
            if lost:
                await self._forget(min(lost, key=lambda session: session.lost))
            elif self._is_one_ending() or await self._end_silent():
                await asyncio.sleep(0.01)
            else:
                raise wire.WireError("the server has as many texts as it can")

    async def _end_silent(self) -> bool:
        """End the links that do not answer: their devices may be the ones that want a place. False:
        all do."""
        links = [session.link for session in self._sessions.values() if session.link]
        asked = {asyncio.create_task(_answers(link)): link for link in links}
        silent = (await asyncio.wait(asked, timeout=ANSWER_S))[1] if asked else set()
        for task in silent:
            task.cancel()
            asked[task].transport.abort()
        return bool(silent)

    def _is_one_ending(self) -> bool:
        """Whether a device has just said that it has what it wanted."""
        links = [session.link for session in self._sessions.values()]
        return self._ending > 0 or any(link and link.state is not State.OPEN for link in links)

    async def _forget(self, session: Session) -> None:
        if self._sessions.pop(session.name, None) is None:
            return
        self._ending += 1
        try:
            async with self._alone():
                session.text.close()
            self._free.append(session.text.sequence)
        finally:
            self._ending -= 1

    # The engine

    async def _drive(self) -> None:
        while True:
            now = time.monotonic()
            for session in list(self._sessions.values()):
                if session.link is None and now - session.lost > KEPT_S:
                    await self._forget(session)
            async with self._engine:
                worked = await self._run()
            if not worked:
                self._work.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._work.wait(), 1.0)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Have the engine for something else than rows: the driver gives it up after its next."""
        self._wanting += 1
        try:
            await self._engine.acquire()
        finally:
            self._wanting -= 1
        try:
            yield
        finally:
            self._engine.release()

    async def _run(self) -> bool:
        """Compute rows of the texts that have credit. False: there was none."""
        for session in self._sessions.values():
            self._apply(session)
        if not self._ready():
            return False
        await asyncio.to_thread(self._compute, asyncio.get_running_loop())
        return True

    def _ready(self) -> list[Session]:
        return [session for session in list(self._sessions.values()) if self._is_ready(session)]

    def _compute(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: row after row, until nothing has credit, or there is something else to do.

        Between two rows there is as little as can be; the loop makes the frames meanwhile.
        """
        send: Callable[[], object] | None = None
        for _ in range(MOST_ROWS):
            ready = self._ready()[:TOGETHER]
            # In this order: what is said from here on is heard by the row that is computed.
            self._void.clear()
            self._computing = ready
            if not ready or any(session.orders for session in list(self._sessions.values())):
                break
            rows = [session.text.next_row for session in ready]
            try:
                states, logits = self._base.compute(rows, send, self._void)
            except Dropped:  # an override made all of them void
                self.dropped += len(rows)
                return
            said = list(map(Logits, logits.copy()))  # the engine's own are of the next rows soon
            frames = [each.text.advance(row) for each, row in zip(ready, said, strict=True)]
            self.computed += len(ready)
            send = partial(loop.call_soon_threadsafe, self._made, ready, frames, states, said)
            if self._wanting:
                break
        if send is not None:
            send()

    def _made(
        self,
        sessions: list[Session],
        frames: list[Callable[[Rows], Frame]],
        states: NDArray[np.float32],
        logits: list[Logits],
    ) -> None:
        """Send frames. Of an override that came meanwhile the device has the epoch, and drops
        them."""
        rows = self._base.shown(states, logits)
        for index, (session, frame) in enumerate(zip(sessions, frames, strict=True)):
            session.outbox.put_nowait(frame(rows[index : index + 1]).pack())

    def _is_ready(self, session: Session) -> bool:
        tokens = len(session.text.tokens)
        return (
            session.link is not None
            and tokens < min(session.allowed, self._length)
            and not (session.text.ended and tokens > session.text.first)
        )

    def _apply(self, session: Session) -> None:
        orders, session.orders = session.orders, []
        if orders:  # frames that were not sent yet are void
            self._drop_frames(session)
        for order in orders:  # one that an earlier one made void is no order any more
            session.text.override(order.position, order.token)

    def _drop_frames(self, session: Session) -> None:
        waiting = [session.outbox.get_nowait() for _ in range(session.outbox.qsize())]
        for message in waiting:
            if message[0] != wire.FRAME:
                session.outbox.put_nowait(message)


def _window(wanted: int) -> int:
    return min(max(wanted, WINDOWS[0]), WINDOWS[1])


def _binary(message: str | bytes) -> bytes:
    if isinstance(message, str):
        raise wire.WireError("a message of text")
    return message


async def _answers(link: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        await (await link.ping())


async def _send(link: ServerConnection, outbox: asyncio.Queue[bytes]) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await link.send(await outbox.get())
