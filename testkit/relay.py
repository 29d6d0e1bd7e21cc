"""A relay between a client and a server: it delays, records, and harms links.

with Relay(port, delay_s=0.05) as relay:
    relay.harm = Harm("reset", after=5000)
    connect(f"ws://127.0.0.1:{relay.port}")
    relay.messages()            # of WebSocket, that went up
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

How = Literal["reset", "blackhole", "stall"]


@dataclass(frozen=True)
class Harm:
    """What is done to a link, in the middle of a message as it may be.

    Attributes:
        how: reset ends it with RST. From a blackhole nothing comes any more, in no direction, and
            nobody is told. A stall holds what is sent for `held_s`, and then lets it through.
        after: so many bytes down, of all links: one that a busy machine lost leaves it due.
        lasting: later links get nothing through either.
    """

    how: How
    after: int
    lasting: bool = False
    held_s: float = 0.0


class Relay:
    """Forwards TCP to a port of this machine. Use `with`.

    Args:
        delay_s: of each direction: half a round trip.

    Attributes:
        target: the port that the next link goes to.
        up: all bytes that clients sent, a bytearray for each link.
        down: how many bytes servers sent.
        harm: is done once.
    """

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        self.target, self._delay = port, delay_s
        self.up: list[bytearray] = []
        self.down = self.port = 0
        self.harm: Harm | None = None
        self.refuses = False
        self._swallows = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()

    def __enter__(self) -> Relay:
        self._thread.start()
        self._flowing.set()
        server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._server = server
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """End all links with a reset."""
        self._do(self._reset())

    async def _reset(self) -> None:
        for writer in list(self._links):
            link = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        await self._reset()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def stall(self, stalled: bool) -> None:
        """Let nothing through, or all again: what waits comes then."""
        change = self._flowing.clear if stalled else self._flowing.set
        self._loop.call_soon_threadsafe(change)

    def messages(self) -> list[bytes]:
        """Returns the WebSocket messages that went up, of all links; those of data alone."""
        return [data for code, data in self.frames() if code in (1, 2)]

    def frames(self) -> list[tuple[int, bytes]]:
        """Returns the WebSocket frames that went up whole, of all links: opcode and data, RFC 6455.

        Raises:
            ValueError: there is something else after an upgrade's headers.
        """
        return [frame for link in self.up for frame in _frames(bytes(link))]

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        link = _Link(self._swallows)
        self.up.append(link.up)
        self._links |= {writer, back}
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                self._pump(reader, back, link, down=False),
                self._pump(there, writer, link, down=True),
            )
        self._links -= {writer, back}

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link, *, down: bool
    ) -> None:
        tasks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                due, data = await tasks.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._flowing.wait()
                if down:
                    data = await self._harmed(data, writer, link)
                await asyncio.sleep(link.held_until - self._loop.time())
                if link.swallows and data:
                    continue
                if not data:
                    if not link.swallows:
                        writer.close()
                    return
                writer.write(data)
                with contextlib.suppress(OSError):
                    await writer.drain()

        writing = asyncio.create_task(write())
        data = b" "
        while data:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                data = b""
            if not down:
                link.up += data
            tasks.put_nowait((self._loop.time() + self._delay, data))
        await writing

    async def _harmed(self, data: bytes, writer: asyncio.StreamWriter, link: _Link) -> bytes:
        """Do the harm if it is due, and return what of some bytes comes after it."""
        before, self.down = self.down, self.down + len(data)
        harm = self.harm
        if harm is None or self.down < harm.after:
            return data
        self.harm = None
        whole = max(0, harm.after - before)
        writer.write(data[:whole])
        if harm.how == "reset":
            await self._reset()
        elif harm.how == "blackhole":
            link.swallows = True
        else:
            link.held_until = self._loop.time() + harm.held_s
        self._swallows = harm.lasting
        return data[whole:]


@dataclass
class _Link:
    """One link.

    Attributes:
        swallows: nothing comes out of it.
        held_until: of the loop's clock; what is sent waits until then.
    """

    swallows: bool
    held_until: float = 0.0
    up: bytearray = field(default_factory=bytearray)


def _frames(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The frames in what a WebSocket client sent, unmasked."""
    at = raw.index(b"\r\n\r\n") + 4
    while at + 6 <= len(raw):
        if raw[at] & 0x70 or not raw[at + 1] & 0x80:
            raise ValueError(f"no frame of a client at {at}")
        code, length = raw[at] & 15, raw[at + 1] & 127
        at += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(raw[at : at + size], "big")
            at += size
        mask, data = raw[at : at + 4], raw[at + 4 : at + 4 + length]
        at += 4 + length
        if len(data) == length:
            yield code, bytes(b ^ mask[i % 4] for i, b in enumerate(data))
