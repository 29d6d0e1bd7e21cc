"""`install` checks, sends and proves engine and model, and only then puts them in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.building.cache import KeptBuild
from plm_edge.deploy import device_engine, proof, record, trouble
from plm_edge.deploy.place import INCOMING, Place
from plm_edge.deploy.record import DeployedEngine, DeployedFile, DeployedModel, Record
from plm_edge.deploy.server import Server, Settings
from plm_edge.devices.connect import OpenDevice
from plm_edge.devices.facts import Facts
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.qemu import QemuTransport
from plm_edge.devices.transports.words import quote

Progress = Callable[[str, int, int], None]  # what, done, in all (bytes)
Step = Callable[[str], None]
_SLACK = 16 * 2**20  # bytes that stay free


@dataclass(frozen=True)
class PlannedFile:
    """A file to be there: `source` here, `place` relative to our folder, once it is proven."""

    source: Path
    place: str
    size: int
    sha256: str
    mode: int

    @property
    def unit(self) -> str:
        """The folder that is renamed as a whole, such as engine/KEY."""
        return "/".join(self.place.split("/")[:2])

    @property
    def staged(self) -> str:
        return f"{INCOMING}/{self.place}"


@dataclass(frozen=True)
class DeployResult:
    """`record` is the manifest there now; `sent` what was sent, `bytes_sent` how much."""

    record: Record
    sent: list[str]
    bytes_sent: int
    throttled: str


def deploy(
    device: OpenDevice,
    build: KeptBuild,
    model: Path,
    facts: Facts,
    *,
    progress: Progress,
    step: Step,
) -> DeployResult:
    """Put an engine and a model on a device.

    Args:
        build: fits the device (device_engine.require_fits).
        facts: what the device said of itself.
        progress: told of each file on its way.
        step: told what is done now, for a person.

    Raises:
        DiskFull: before anything is sent, as far as it can be told then.
        PlmEdgeError: the model cannot be used, or the proof fails. What was there before works on.
        DeviceError: see failures.
    """
    place = Place(device.transport, device.folder)
    step("looking what is there")
    items = [*_engine_items(build), _model_item(model)]
    before = _known(place)
    there = place.hashes([item.place for item in items])
    units = dict.fromkeys(item.unit for item in items)
    # a unit is renamed as a whole, so one changed file sends it again, but not its other files
    ready = {u for u in units if all(there[i.place] == i.sha256 for i in items if i.unit == u)}
    missing = [item for item in items if item.unit not in ready]
    kept = _proven(before, build, items[-1])
    if not missing and before and kept:
        return DeployResult(before, [], 0, trouble.throttling_reason(device.transport))
    _require_room(place, missing)
    step("computing the reference here")
    wanted = proof.reference(model)
    place.announce([path for item in missing for path in (item.staged, item.place)])
    sent, bytes_sent = _send(place, missing, there, progress)
    threads = threads_for(device, facts)
    step("proving it there")
    where = {item.place: item.place if item.unit in ready else item.staged for item in items}
    settings = Settings(
        program=place.path(where[_program(build)]),
        model=place.path(where[items[-1].place]),
        n_ctx=proof.CTX,
        threads=threads,
    )
    with Server(place, settings) as server:
        shown = proof.prove(server, wanted, build.manifest.key)
    for unit in units:
        if unit not in ready:
            place.move(f"{INCOMING}/{unit}", unit)
    # what of another version began to come is of no use any more
    place.drop(INCOMING)
    after = _record(device, build, items, before, threads)
    after.models.pop(items[-1].sha256, None)  # the newest is the last
    after.models[items[-1].sha256] = DeployedModel(
        name=model.name,
        file=DeployedFile(items[-1].place, items[-1].size, items[-1].sha256),
        when=record.now(),
        proof=shown,
        **asdict(wanted.header),
    )
    record.write(place, after)
    if before and before.engine.key != after.engine.key:
        place.drop(f"engine/{_short(before.engine.key)}")
    return DeployResult(
        after.signed(), sent, bytes_sent, trouble.throttling_reason(device.transport)
    )


def threads_for(device: OpenDevice, facts: Facts) -> int:
    """Threads that suit a device: what its profile says, and no more than it has cores."""
    if isinstance(device.transport, QemuTransport):
        return 1  # emulated threads that wait for each other take turns on the cores here
    cores = sum(group.count for group in facts.groups)
    wanted = int(device.profile.section("defaults").get("threads", 0)) or cores or 1
    return min(wanted, cores) if cores else wanted


def _short(key: str) -> str:
    return key[:16]


def _engine_items(build: KeptBuild) -> list[PlannedFile]:
    folder = f"engine/{_short(build.manifest.key)}"
    return [
        PlannedFile(
            build.folder / item.path, f"{folder}/{item.path}", item.size, item.sha256, 0o755
        )
        for item in device_engine.parts(build)
    ]


def _program(build: KeptBuild) -> str:
    return f"engine/{_short(build.manifest.key)}/{device_engine.PROGRAM}"


def _model_item(model: Path) -> PlannedFile:
    try:
        size, digest = model.stat().st_size, files.sha256(model)
    except OSError as error:
        raise PlmEdgeError(
            f"{model} cannot be read", str(error.strerror or error), "check the path"
        ) from error
    return PlannedFile(model, f"models/{digest[:16]}/{model.name}", size, digest, 0o644)


def _known(place: Place) -> Record | None:
    """The manifest there; None also when it is damaged: a new one mends it."""
    try:
        return record.read(place)
    except failures.DeviceError:
        raise
    except PlmEdgeError:
        return None


def _proven(before: Record | None, build: KeptBuild, model: PlannedFile) -> bool:
    """Whether this very engine was proven there with this very model, which is the current one."""
    found = before.models.get(model.sha256) if before else None
    return bool(
        before
        and found
        and before.engine.key == found.proof.engine == build.manifest.key
        and found.file.path == model.place
        and before.current == found
    )


def _require_room(place: Place, missing: list[PlannedFile]) -> None:
    """See that all that is to be sent has room, less what of it is there already.

    Raises:
        DiskFull
    """
    free = place.free()
    if free is None or not missing:
        return
    have = _arrived(place, missing)
    needed = sum(item.size for item in missing) - have
    if needed + min(_SLACK, needed) > free:
        raise failures.disk_full(place.device.device, place.folder, needed, free)


def _arrived(place: Place, missing: list[PlannedFile]) -> int:
    """Bytes of files on their way that are there already."""
    names = [quote(place.path(item.staged)) for item in missing]
    listed = " ".join(f"{name} {name}.*.part" for name in names)
    script = f'for one in {listed}; do [ ! -f "$one" ] || wc -c < "$one"; done'
    return sum(int(word) for word in place.device.shell(script, check=True).text.split())


def _send(
    place: Place, missing: list[PlannedFile], there: dict[str, str | None], progress: Progress
) -> tuple[list[str], int]:
    """Send what is missing to where it waits; the files sent, and their bytes."""
    sent, bytes_sent = [], 0
    for item in missing:
        if there[item.place] == item.sha256:
            _stage(place, item)
        started: list[int] = []

        def told(
            done: int, total: int, item: PlannedFile = item, started: list[int] = started
        ) -> None:
            started.append(done)
            progress(item.place, done, total)

        if place.device.put(item.source, place.path(item.staged), mode=item.mode, progress=told):
            sent.append(item.place)
            bytes_sent += item.size - min(started, default=0)
    return sent, bytes_sent


def _stage(place: Place, item: PlannedFile) -> None:
    """A file that is good, of a folder that is not: beside the others of the new one."""
    source, target = quote(place.path(item.place)), quote(place.path(item.staged))
    script = f"mkdir -p {quote(place.path(item.staged.rsplit('/', 1)[0]))}"
    place.device.shell(
        f"{script} && {{ ln {source} {target} || cp {source} {target}; }}", check=True
    )


def _record(
    device: OpenDevice,
    build: KeptBuild,
    items: list[PlannedFile],
    before: Record | None,
    threads: int,
) -> Record:
    """The manifest to be, with the models that were there before."""
    what = build.manifest
    engine = DeployedEngine(
        key=what.key, tree=what.tree, pin=what.pin, arch=what.arch, version=what.version,
        files=[DeployedFile(item.place, item.size, item.sha256) for item in items[:-1]],
        when=record.now(),
    )  # fmt: skip
    if before and before.engine.key == engine.key:
        engine = replace(engine, when=before.engine.when)
    models = dict(before.models) if before else {}
    return Record(device.name, device.profile.name, threads, engine, models)
