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
from plm_edge.model.offload import Parts
from plm_edge.model.sizes import Sizes

SCHEMA = "plm-edge/deployed/2"


@dataclass(frozen=True)
class DeployedFile:
    """A file on a device: `path` is relative to our folder, `size` in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Proof:
    """The greedy `tokens` after `prompt` that were equal there and here.

    `engine` is the key of the build that computed them. `margin` says by how many nats, at the
    least, the reference preferred each token to the second-best. `when` is UTC, ISO 8601.
    """

    engine: str
    prompt: str
    tokens: list[int]
    margin: float
    when: str


@dataclass(frozen=True)
class DeployedEngine:
    """The engine on a device. `key`, `tree` and so on are its build's (`building.manifest`);
    `backend` is its GPU backend, or empty."""

    key: str
    tree: str
    pin: str
    arch: str
    version: str
    files: list[DeployedFile]
    when: str
    backend: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelHeader:
    """The part of a model's header that running it on a device needs.

    `sizes` are those that its need of memory follows from. `chat_template` is None if the model
    has none. `synthetic` says that its weights are random, not trained. `parts` says where its
    bytes are; None: an older plm-edge deployed it.
    """

    architecture: str
    description: str
    sizes: Sizes
    chat_template: str | None
    bos: str
    eos: str
    synthetic: bool = False
    parts: Parts | None = None

    @property
    def n_ctx_train(self) -> int | None:
        """Tokens that the model was trained for; None where its header does not say."""
        return self.sizes.n_ctx_train


@dataclass(frozen=True, kw_only=True)
class DeployedModel(ModelHeader):
    """A model on a device. It extends the header because the manifest has both on one level."""

    name: str
    file: DeployedFile
    when: str
    proof: Proof


@dataclass(frozen=True)
class Record:
    """The manifest: engine and models on a device.

    `models` is by SHA-256, the newest last; `threads` is how many suit the device; `gpu_layers` go
    to its GPU, as the engine counts them (None: as many as fit).
    """

    device: str
    profile: str
    threads: int
    engine: DeployedEngine
    models: dict[str, DeployedModel] = field(default_factory=dict)
    when: str = ""
    sender: str = ""
    version: str = ""
    gpu_layers: int | None = None

    @property
    def current(self) -> DeployedModel:
        """The model that was deployed last."""
        return list(self.models.values())[-1]

    def signed(self) -> Record:
        """The same record with the time now, this sender, and the version of this plm-edge."""
        return replace(self, when=now(), sender=sender(), version=plm_edge.__version__)

    def as_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["from"] = data.pop("sender")
        return {"schema": SCHEMA, **data}


def read(place: Place) -> Record | None:
    """Read a device's manifest; None if there is none.

    Raises:
        PlmEdgeError: it is damaged, or has another schema.
        DeviceError: the device cannot be reached.
    """
    text = place.read(MANIFEST)
    if text is None:
        return None
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlmEdgeError(
            f"the manifest on {place.transport.name} cannot be read",
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
        sizes, where = Sizes.from_json(item.pop("sizes")), item.pop("parts", None)
        models[sha256] = DeployedModel(
            file=file,
            proof=proof,
            sizes=sizes,
            parts=Parts.from_json(where) if where else None,
            **item,
        )
    if not models:
        raise ValueError("it names no model")
    data["sender"] = data.pop("from")
    return Record(engine=DeployedEngine(files=files, **engine), models=models, **data)


def write(place: Place, record: Record) -> None:
    """Write the manifest to the device, signed."""
    place.write(MANIFEST, json.dumps(record.signed().as_json(), indent=2) + "\n")


def now() -> str:
    """The time now: UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def sender() -> str:
    """Who deploys, as USER@HOST."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
