"""A state file holds what a model's context knows of a text, so that it needs no prefill again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.engine.session import Session
from plm_edge.model.gguf_file import GGUFFile

SCHEMA = "plm-edge/state/1"
_LONGEST_HEAD = 64 << 20  # bytes of the first line
_SAMPLES, _SAMPLE = 64, 4096  # so many places of the weights are read, so many bytes each


class StateError(PlmEdgeError, ValueError):
    """A state file that is damaged, or of another model, cache type or engine."""


@dataclass(frozen=True)
class State:
    """A text in a context.

    Attributes:
        tokens: of the text, each computed.
        data: the cache's bytes of them, as the engine writes them.
    """

    tokens: list[int]
    data: bytes


@dataclass(frozen=True)
class _Head:
    """The first line of a state file, as JSON."""

    schema: str
    model: str
    kv: str
    engine: str
    tokens: list[int]
    n_bytes: int
    sha256: str


def write(path: Path, session: Session, tokens: list[int]) -> None:
    """Write what sequence 0 of a session's context holds: `tokens`. Replaces the file when whole.

    Raises:
        OSError: the file cannot be written.
    """
    data = session.context.save()
    head = _Head(
        SCHEMA,
        identity(session.header),
        session.options.kv,
        session.engine["tree"],
        tokens,
        len(data),
        _digest(tokens, data),
    )
    with files.replacing(path, mode=0o600) as file:  # it holds what somebody wrote
        file.write(json.dumps(asdict(head)).encode() + b"\n")
        file.write(data)


def read(path: Path, session: Session) -> State:
    """Returns the state of a file, checked.

    Raises:
        StateError: it is damaged, or of another model, cache type or engine; or it does not fit.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        line = file.readline(_LONGEST_HEAD)
        data = file.read()
    try:
        head = _Head(**json.loads(line))
        tokens = [int(token) for token in head.tokens]
    except (ValueError, TypeError) as error:
        why = "its first line is not what save_state writes there"
        raise _refused(path, "it is damaged, or no state file", why) from error
    if head.schema != SCHEMA:
        raise _refused(path, "it is of another plm-edge", f"{head.schema} is not {SCHEMA}")
    if len(data) != head.n_bytes or _digest(tokens, data) != head.sha256:
        raise _refused(path, "it is damaged", f"{len(data):,} bytes of {head.n_bytes:,} or others")
    for name, theirs, ours in (
        ("model", head.model, identity(session.header)),
        ("type of the KV cache", head.kv, session.options.kv),
        ("engine", head.engine, session.engine["tree"]),
    ):
        if theirs != ours:
            raise _refused(path, f"it is of another {name}", f"{theirs[:16]} is not {ours[:16]}")
    if len(tokens) >= session.n_ctx:
        raise _refused(
            path, "it does not fit the context", f"{len(tokens):,} tokens, {session.n_ctx:,} fit"
        )
    return State(tokens, data)


def identity(header: GGUFFile) -> str:
    """Returns a hash of a GGUF's header and of samples of its weights; all of it takes too long."""
    digest = hashlib.sha256()
    size = header.path.stat().st_size
    start = min((tensor.offset for tensor in header.tensors), default=size)
    digest.update(f"{size} {start}".encode())
    with header.path.open("rb") as file:
        digest.update(file.read(start))
        for sample in range(_SAMPLES):
            file.seek(start + (size - start) * sample // _SAMPLES, os.SEEK_SET)
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _digest(tokens: list[int], data: bytes) -> str:
    digest = hashlib.sha256(json.dumps(tokens).encode())
    digest.update(data)
    return digest.hexdigest()


def _refused(path: Path, what: str, why: str) -> StateError:
    return StateError(
        f"{path.name} cannot be restored: {what}",
        why,
        "load the model and the cache type that it was saved with, or make the state again",
    )
