"""The messages between device and server, each one binary message of a WebSocket.

Up, from the device: `Open`, `Resume`, `Override`, `Credit`, of chats also `Encode`, and nothing
else. `parse_up` refuses any byte that is not part of one. Down: `Opened`, `Frame`, `Refused`,
`Encoded`. All numbers are little-endian.

An epoch counts the overrides of a session. The server marks its frames with it, so that the device
knows those that were computed before its override arrived.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from plm_edge.spa.frame import TOP, Rows

VERSION = 1
CREDIT_EVERY = 16
"""Tokens after which the device says how far it is."""
SESSION = 16  # bytes of a session's name
MOST_TEXT = 1 << 20  # bytes of a prompt
_OPEN = struct.Struct("<BBHfI16s16sI")
_RESUME = struct.Struct("<BxHI16sI")
_OVERRIDE = struct.Struct("<BxxxII")
_CREDIT = struct.Struct("<BxxxI")
_ENCODE = struct.Struct("<BBB16s16s")
_OPENED = struct.Struct("<BxxxIII16s")
_FRAME = struct.Struct("<BBBxIIIf")
_ENCODED = struct.Struct("<B?xxI")
OPEN, RESUME, OVERRIDE, CREDIT, ENCODE = 1, 2, 3, 4, 5
OPENED, FRAME, REFUSED, ENCODED = 17, 18, 19, 20
RAW, SAID, MESSAGES = 0, 1, 2
"""What a text is whose tokens are asked for: one to go on with; what a person says, to be put into
the base's chat template; a conversation, in JSON a list of objects with role and content."""


class WireError(Exception):
    """A message that is none of the protocol's."""


@dataclass(frozen=True)
class Open:
    """Begin a text.

    Attributes:
        window: most tokens that the server computes beyond what the device said that it has.
        temperature, seed: of the base's own choices (choosing.pick).
        base, codec: the first 16 bytes of their SHA-256.
        text: the prompt; sent compressed.
        tokens: that follow it: what was made before, when a text goes on that another session
            began. Of a chat all of the prompt, and the text is empty.
    """

    window: int
    temperature: float
    seed: int
    base: bytes
    codec: bytes
    text: str
    tokens: tuple[int, ...] = ()

    def pack(self) -> bytes:
        """Returns the message."""
        head = _OPEN.pack(
            OPEN, VERSION, self.window, self.temperature, self.seed, self.base, self.codec,
            len(self.tokens),
        )  # fmt: skip
        tokens = np.array(self.tokens, "<u4").tobytes()
        return head + tokens + _deflate(self.text)


@dataclass(frozen=True)
class Resume:
    """Go on with a session whose link was lost, from a position on."""

    window: int
    position: int
    session: bytes
    epoch: int

    def pack(self) -> bytes:
        """Returns the message."""
        return _RESUME.pack(RESUME, self.window, self.position, self.session, self.epoch)


@dataclass(frozen=True)
class Override:
    """Another token at a position than the base's; what the server computed beyond it is void."""

    position: int
    token: int

    def pack(self) -> bytes:
        """Returns the message, 12 bytes."""
        return _OVERRIDE.pack(OVERRIDE, self.position, self.token)


@dataclass(frozen=True)
class Credit:
    """The device has all frames before this position."""

    position: int

    def pack(self) -> bytes:
        """Returns the message, 8 bytes."""
        return _CREDIT.pack(CREDIT, self.position)


@dataclass(frozen=True)
class Encode:
    """Ask for a text's tokens. The conversation of a chat must fit the base's room.

    Attributes:
        what: RAW, SAID or MESSAGES.
        base, codec: as `Open`'s.
        text: sent compressed.
    """

    what: int
    base: bytes
    codec: bytes
    text: str

    def pack(self) -> bytes:
        """Returns the message."""
        return _ENCODE.pack(ENCODE, VERSION, self.what, self.base, self.codec) + _deflate(self.text)


Up = Open | Resume | Override | Credit | Encode


def parse_up(message: bytes) -> Up:
    """Returns what the device said.

    Raises:
        WireError: it is no message of the protocol, to the last byte.
    """
    kind = message[0] if message else 0
    try:
        if kind == OVERRIDE:
            _, position, token = _OVERRIDE.unpack(message)
            made: Up = Override(position, token)
        elif kind == CREDIT:
            made = Credit(_CREDIT.unpack(message)[1])
        elif kind == RESUME:
            _, window, position, session, epoch = _RESUME.unpack(message)
            made = Resume(window, position, session, epoch)
        elif kind == OPEN:
            made = _parse_open(message)
        elif kind == ENCODE:
            _, version, what, base, codec = _ENCODE.unpack_from(message)
            _require_version(version)
            if what not in (RAW, SAID, MESSAGES):
                raise WireError(f"a text of kind {what}")
            made = Encode(what, base, codec, _inflate(message[_ENCODE.size :]))
        else:
            raise WireError(f"a message of kind {kind}")
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise WireError(f"a message of kind {kind}: {error}") from error
    if kind not in (OPEN, ENCODE) and made.pack() != message:
        raise WireError(f"bytes that mean nothing in a message of kind {kind}")
    return made


def _parse_open(message: bytes) -> Open:
    _, version, window, temperature, seed, base, codec, count = _OPEN.unpack_from(message)
    _require_version(version)
    if not math.isfinite(temperature):
        raise WireError("a temperature that is no number")
    end = _OPEN.size + 4 * count
    if end > len(message):
        raise WireError("fewer tokens than it says")
    tokens = np.frombuffer(message[_OPEN.size : end], "<u4")
    text = _inflate(message[end:])
    return Open(window, temperature, seed, base, codec, text, tuple(int(t) for t in tokens))


def _require_version(version: int) -> None:
    if version != VERSION:
        raise WireError(f"version {version} of the protocol; this is {VERSION}")


def _deflate(text: str) -> bytes:
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    return raw.compress(text.encode()) + raw.flush()


def _inflate(data: bytes) -> str:
    raw = zlib.decompressobj(-15)
    text = raw.decompress(data, MOST_TEXT)
    if raw.unconsumed_tail or not raw.eof or raw.unused_data:
        raise WireError("a prompt that is too long, or does not end where it should")
    return text.decode()


@dataclass(frozen=True)
class Opened:
    """A text was begun, or goes on: its prompt's tokens, and by which name it is resumed.

    Attributes:
        position: of the first frame that follows.
        epoch: how many overrides the server has.
        length: most tokens of the text: no frame has this position.
    """

    position: int
    epoch: int
    length: int
    session: bytes
    tokens: tuple[int, ...]

    def pack(self) -> bytes:
        """Returns the message."""
        head = _OPENED.pack(OPENED, self.position, self.epoch, self.length, self.session)
        return head + np.array(self.tokens, "<u4").tobytes()


@dataclass(frozen=True)
class Refused:
    """Why the server does not go on, in words for a person."""

    why: str

    def pack(self) -> bytes:
        """Returns the message."""
        return bytes([REFUSED]) + self.why.encode()


@dataclass(frozen=True)
class Frame:
    """What the base says at a position.

    Attributes:
        token: that it chose itself.
        row: of one row.
    """

    position: int
    epoch: int
    token: int
    row: Rows

    def pack(self) -> bytes:
        """Returns the message: 868 bytes with 8 states of 64 values."""
        row = self.row
        states, width = row.codes.shape[1:]
        head = _FRAME.pack(
            FRAME, states, width, self.position, self.epoch, self.token, float(row.rest[0])
        )
        ids = row.ids[0].astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3]
        parts = (row.codes, row.scales.astype("<f2"), np.ascontiguousarray(ids),
                 row.logits.astype("<f2"))  # fmt: skip
        return head + b"".join(part.tobytes() for part in parts)


@dataclass(frozen=True)
class Encoded:
    """A text's tokens.

    Attributes:
        templated: the base's chat template is around it.
        length: most tokens of a text.
    """

    templated: bool
    length: int
    tokens: tuple[int, ...]

    def pack(self) -> bytes:
        """Returns the message."""
        head = _ENCODED.pack(ENCODED, self.templated, self.length)
        return head + np.array(self.tokens, "<u4").tobytes()


Down = Opened | Refused | Frame | Encoded


def parse_down(message: bytes) -> Down:
    """Returns what the server said.

    Raises:
        WireError: it is no message of the protocol.
    """
    kind = message[0] if message else 0
    try:
        if kind == FRAME:
            return _parse_frame(message)
        if kind == OPENED:
            _, position, epoch, length, session = _OPENED.unpack_from(message)
            tokens = np.frombuffer(message[_OPENED.size :], "<u4")
            return Opened(position, epoch, length, session, tuple(int(t) for t in tokens))
        if kind == ENCODED:
            _, templated, length = _ENCODED.unpack_from(message)
            tokens = np.frombuffer(message[_ENCODED.size :], "<u4")
            return Encoded(templated, length, tuple(int(t) for t in tokens))
        if kind == REFUSED:
            return Refused(message[1:].decode("utf-8", "replace"))
    except (struct.error, ValueError) as error:
        raise WireError(f"a message of kind {kind}: {error}") from error
    raise WireError(f"a message of kind {kind}")


def _parse_frame(message: bytes) -> Frame:
    _, states, width, position, epoch, token, rest = _FRAME.unpack_from(message)
    sizes = (states * width, 2 * states, 3 * TOP, 2 * TOP)
    if len(message) != _FRAME.size + sum(sizes):
        raise ValueError(f"{len(message)} bytes")
    ends = np.cumsum((_FRAME.size, *sizes))
    codes, scales, ids, logits = (message[low:high] for low, high in itertools.pairwise(ends))
    wide = np.zeros((TOP, 4), np.uint8)
    wide[:, :3] = np.frombuffer(ids, np.uint8).reshape(TOP, 3)
    row = Rows(
        np.frombuffer(codes, np.int8).reshape(1, states, width),
        np.frombuffer(scales, "<f2").reshape(1, states),
        wide.view("<i4").reshape(1, TOP),
        np.frombuffer(logits, "<f2").reshape(1, TOP),
        np.array([rest], np.float32),
    )
    return Frame(position, epoch, token, row)
