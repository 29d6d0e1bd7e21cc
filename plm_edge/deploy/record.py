"""The manifest on a device says what is there, of what it is made, when it came, whence."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import plm_edge
from plm_edge.base.errors import PlmEdgeError
from plm_edge.deploy.place import MANIFEST, Place

SCHEMA = "plm-edge/deployed/1"


@dataclass(frozen=True)
class DeployedFile:
    """A file there: `path` relative to our folder, `size` in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Proof:
    """Greedy tokens that were compared: `tokens` of `prompt`, equal there and here.

    `margin`: by how many nats the reference preferred each token to the next, at the least.
    """

    engine: str
    prompt: str
    tokens: list[int]
    margin: float
    when: str


@dataclass(frozen=True)
class DeployedEngine:
    """The engine there: `key` and `tree` of its build."""

    key: str
    tree: str
    pin: str
    arch: str
    version: str
    files: list[DeployedFile]
    when: str


@dataclass(frozen=True, kw_only=True)
class ModelHeader:
    """What of a model's header is needed to run it from afar. `chat_template`: None for none.
    `synthetic`: its weights were drawn, not trained.

    `kv_bytes_per_token`: of an f16 cache, in all layers.
    """

    architecture: str
    description: str
    n_ctx_train: int | None
    kv_bytes_per_token: float
    chat_template: str | None
    bos: str
    eos: str
    synthetic: bool = False


@dataclass(frozen=True, kw_only=True)
class DeployedModel(ModelHeader):
    """A model there. It extends its header, since the manifest names all of it on one level."""

    name: str
    file: DeployedFile
    when: str
    proof: Proof


@dataclass(frozen=True)
class Record:
    """All of it. `models` by SHA-256, the newest last; `threads` that suit the device."""

    device: str
    profile: str
    threads: int
    engine: DeployedEngine
    models: dict[str, DeployedModel] = field(default_factory=dict)
    when: str = ""
    sender: str = ""
    version: str = ""

    @property
    def current(self) -> DeployedModel:
        """The model that came last."""
        return list(self.models.values())[-1]

    def paths(self) -> list[str]:
        return [item.path for item in (*self.engine.files, *(m.file for m in self.models.values()))]

    def signed(self) -> Record:
        """With the time, the sender and our version of now."""
        return replace(self, when=now(), sender=sender(), version=plm_edge.__version__)

    def as_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["from"] = data.pop("sender")
        return {"schema": SCHEMA, **data}


def read(place: Place) -> Record | None:
    """What a device's manifest says; None when there is none.

    Raises:
        PlmEdgeError: it is damaged, or of another version.
        DeviceError: the device cannot be reached.
    """
    text = place.read(MANIFEST)
    if text is None:
        return None
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlmEdgeError(
            f"the manifest on {place.device.device} cannot be read",
            f"{place.path(MANIFEST)}: {error}",
            "deploy again; if that fails, clean it first: plm-edge devices clean NAME",
        ) from error


def _parse(data: dict[str, Any]) -> Record:
    if data.pop("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    engine = data.pop("engine")
    files = [DeployedFile(**item) for item in engine.pop("files")]
    models = {}
    for sha256, item in data.pop("models").items():
        file, proof = DeployedFile(**item.pop("file")), Proof(**item.pop("proof"))
        models[sha256] = DeployedModel(file=file, proof=proof, **item)
    if not models:
        raise ValueError("it names no model")
    data["sender"] = data.pop("from")
    return Record(engine=DeployedEngine(files=files, **engine), models=models, **data)


def write(place: Place, record: Record) -> None:
    place.write(MANIFEST, json.dumps(record.signed().as_json(), indent=2) + "\n")


def now() -> str:
    """UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def sender() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"
