"""`install` checks, sends and proves engine and model, and only then puts them in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from plm_edge.base import files
from plm_edge.base.errors import PlmEdgeError
from plm_edge.building.cache import KeptBuild
from plm_edge.deploy import device_engine, gpu, proof, record, trouble
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
_SLACK = 16 * 2**20  # bytes of the disk that must stay free


@dataclass(frozen=True)
class PlannedFile:
    """A file that is to be on the device.

    `source` is its path here, `place` its final path there, relative to our folder; `size` is in
    bytes, `mode` its permissions.
    """

    source: Path
    place: str
    size: int
    sha256: str
    mode: int

    @property
    def unit(self) -> str:
        """The folder that is moved as a whole, such as engine/KEY."""
        return "/".join(self.place.split("/")[:2])

    @property
    def staged(self) -> str:
        """Its path until the proof has passed, relative to our folder."""
        return f"{INCOMING}/{self.place}"


@dataclass(frozen=True)
class DeployResult:
    """What a deployment did.

    `record` is the manifest that is on the device now, `sent` the files that were sent, with
    `bytes_sent` in all, `throttled` why the device is slow now (or empty).
    """

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
    gpu_layers: int | None = None,
) -> DeployResult:
    """Put an engine and a model on a device.

    Args:
        build: an engine that fits the device (`device_engine.require_fits`).
        model: a GGUF here.
        facts: what the device reports of itself.
        progress: is called while a file is sent: its path, bytes done, bytes in all.
        step: is called with what happens next, in words for a person.
        gpu_layers: layers on its GPU, as the engine counts them; None: as many as fit.

    Raises:
        DiskFull: there is no room; this is checked before anything is sent.
        PlmEdgeError: the model cannot be used, or the proof fails. An older deployment stays.
        DeviceError: the device failed (see `transports.failures`).
    """
    place = Place(device.transport, device.folder)
    step("looking what is there")
    items = [*_engine_items(build), _model_item(model)]
    before = _known(place)
    there = place.hashes([item.place for item in items])
    units = dict.fromkeys(item.unit for item in items)
    # A unit is moved as a whole: if one file differs, the unit is staged again, but only that file
    # is sent.
    ready = {u for u in units if all(there[i.place] == i.sha256 for i in items if i.unit == u)}
    missing = [item for item in items if item.unit not in ready]
    kept = _proven(before, build, items[-1])
    if not missing and before and kept and before.gpu_layers == gpu_layers:
        return DeployResult(before, [], 0, trouble.throttling_reason(device.transport))
    _require_room(place, missing)
    step("computing the reference here")
    expected = proof.reference(model)
    place.announce([path for item in missing for path in (item.staged, item.place)])
    sent, bytes_sent = _send(place, missing, there, progress)
    threads = threads_for(device, facts)
    step("proving it there")
    where = {item.place: item.place if item.unit in ready else item.staged for item in items}
    program = place.path(where[_program(build)])
    there_gpu = gpu.choose(
        place, program, build.manifest.backend, expected.header, proof.CTX, "f16", gpu_layers
    )
    if there_gpu:
        step(there_gpu.note)
    settings = Settings(
        program=program,
        model=place.path(where[items[-1].place]),
        n_ctx=proof.CTX,
        threads=threads,
        more=gpu.words(there_gpu, gpu_layers),
    )
    with Server(place, settings) as server:
        shown = proof.prove(server, expected, build.manifest.key)
    for unit in units:
        if unit not in ready:
            place.move(f"{INCOMING}/{unit}", unit)
    # Parts of another version that began to arrive are useless now.
    place.drop(INCOMING)
    after = _record(device, build, items, before, threads, gpu_layers)
    after.models.pop(items[-1].sha256, None)  # so that the newest becomes the last
    after.models[items[-1].sha256] = DeployedModel(
        name=model.name,
        file=DeployedFile(items[-1].place, items[-1].size, items[-1].sha256),
        when=record.now(),
        proof=shown,
        **vars(expected.header),
    )
    record.write(place, after)
    if before and before.engine.key != after.engine.key:
        place.drop(f"engine/{_short(before.engine.key)}")
    return DeployResult(
        after.signed(), sent, bytes_sent, trouble.throttling_reason(device.transport)
    )


def threads_for(device: OpenDevice, facts: Facts) -> int:
    """How many threads suit a device: as many as its profile says, but not more than its cores."""
    if isinstance(device.transport, QemuTransport):
        return 1  # emulated threads wait for one another and would only take turns
    cores = sum(group.count for group in facts.groups)
    threads = int(device.profile.section("defaults").get("threads", 0)) or cores or 1
    return min(threads, cores) if cores else threads


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
    """The device's manifest; None if there is none or it is damaged (a new one will replace it)."""
    try:
        return record.read(place)
    except failures.DeviceError:
        raise
    except PlmEdgeError:
        return None


def _proven(before: Record | None, build: KeptBuild, model: PlannedFile) -> bool:
    """Whether the device has proven this build with this model, and it is the current one."""
    found = before.models.get(model.sha256) if before else None
    return bool(
        before
        and found
        and before.engine.key == found.proof.engine == build.manifest.key
        and found.file.path == model.place
        and before.current == found
    )


def _require_room(place: Place, missing: list[PlannedFile]) -> None:
    """Check that what must be sent fits; bytes that have arrived already do not count.

    Raises:
        DiskFull: it does not fit.
    """
    free = place.free()
    if free is None or not missing:
        return
    have = _arrived(place, missing)
    needed = sum(item.size for item in missing) - have
    if needed + min(_SLACK, needed) > free:
        raise failures.disk_full(place.transport.name, place.folder, needed, free)


def _arrived(place: Place, missing: list[PlannedFile]) -> int:
    """How many bytes of the missing files have arrived in an earlier try."""
    names = [quote(place.path(item.staged)) for item in missing]
    listed = " ".join(f"{name} {name}.*.part" for name in names)
    script = f'for one in {listed}; do [ ! -f "$one" ] || wc -c < "$one"; done'
    return sum(int(word) for word in place.transport.shell(script, check=True).text.split())


def _send(
    place: Place, missing: list[PlannedFile], there: dict[str, str | None], progress: Progress
) -> tuple[list[str], int]:
    """Send the missing files to `incoming/`; return which were sent, and how many bytes."""
    sent, bytes_sent = [], 0
    for item in missing:
        if there[item.place] == item.sha256:
            _stage(place, item)
        started: list[int] = []

        def report(
            done: int, total: int, item: PlannedFile = item, started: list[int] = started
        ) -> None:
            started.append(done)
            progress(item.place, done, total)

        if place.transport.put(
            item.source, place.path(item.staged), mode=item.mode, progress=report
        ):
            sent.append(item.place)
            bytes_sent += item.size - min(started, default=0)
    return sent, bytes_sent


def _stage(place: Place, item: PlannedFile) -> None:
    """Link or copy a file that is good already to `incoming/`, beside the rest of its unit."""
    source, target = quote(place.path(item.place)), quote(place.path(item.staged))
    script = f"mkdir -p {quote(place.path(item.staged.rsplit('/', 1)[0]))}"
    place.transport.shell(
        f"{script} && {{ ln {source} {target} || cp {source} {target}; }}", check=True
    )


def _record(
    device: OpenDevice,
    build: KeptBuild,
    items: list[PlannedFile],
    before: Record | None,
    threads: int,
    gpu_layers: int | None,
) -> Record:
    """The new manifest, with the models that the device had before."""
    what = build.manifest
    engine = DeployedEngine(
        key=what.key, tree=what.tree, pin=what.pin, arch=what.arch, version=what.version,
        files=[DeployedFile(item.place, item.size, item.sha256) for item in items[:-1]],
        when=record.now(), backend=what.backend,
    )  # fmt: skip
    if before and before.engine.key == engine.key:
        engine = replace(engine, when=before.engine.when)
    models = dict(before.models) if before else {}
    return Record(device.name, device.profile.name, threads, engine, models, gpu_layers=gpu_layers)
