"""A relay between a client and a server: it delays, records, stalls, and cuts.

with Relay(port, delay_s=0.05) as relay:
    connect(f"ws://127.0.0.1:{relay.port}")
    relay.messages()            # of WebSocket, that went up
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any


class Relay:
    """Forwards TCP to a port of this machine. Use `with`.

    Args:
        delay_s: of each direction: half a round trip.

    Attributes:
        target: the port that the next link goes to.
        up: all bytes that clients sent, a bytearray for each link.
    """

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        self.target, self._delay = port, delay_s
        self.up: list[bytearray] = []
        self.port = 0
        self.refuses = False
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
        self.cut()
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """End all links with a reset."""

        async def reset() -> None:
            for writer in list(self._links):
                link = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

        self._do(reset())

    def stall(self, stalled: bool) -> None:
        """Let nothing through, or all again: what waits comes then."""
        change = self._flowing.clear if stalled else self._flowing.set
        self._loop.call_soon_threadsafe(change)

    def messages(self) -> list[bytes]:
        """Returns the WebSocket messages that went up, of all links; those of data alone."""
        return [message for link in self.up for message in _messages(bytes(link))]

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        kept = bytearray()
        self.up.append(kept)
        self._links |= {writer, back}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pump(reader, back, kept), self._pump(there, writer, None))
        self._links -= {writer, back}

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None
    ) -> None:
        tasks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                due, data = await tasks.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._flowing.wait()
                if not data:
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
            if kept is not None:
                kept += data
            tasks.put_nowait((self._loop.time() + self._delay, data))
        await writing


def _messages(raw: bytes) -> list[bytes]:
    """The data messages in what a WebSocket client sent, RFC 6455, unmasked."""
    at, made = raw.index(b"\r\n\r\n") + 4, []
    while at + 6 <= len(raw):
        code, length = raw[at] & 15, raw[at + 1] & 127
        at += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(raw[at : at + size], "big")
            at += size
        mask, data = raw[at : at + 4], raw[at + 4 : at + 4 + length]
        at += 4 + length
        if code in (1, 2) and len(data) == length:
            made.append(bytes(b ^ mask[i % 4] for i, b in enumerate(data)))
    return made
