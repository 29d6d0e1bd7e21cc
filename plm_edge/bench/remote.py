"""Another device is a site too: model and worker go there, its meters are read from here.

What is measured is what `session` measures here, point by point, each in a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from plm_edge.base import files
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench import capability, environment, kernels, placing
from plm_edge.bench.meters.host import Host, RemoteHost
from plm_edge.bench.result.shape import Capability, Engine, Machine
from plm_edge.bench.site import Head, OnSample
from plm_edge.bench.worker.client import (
    PROGRAM,
    SMALLER,
    Answers,
    PointReader,
    Request,
    Setting,
    encode,
    point_request,
)
from plm_edge.bench.worker.events import Event, Measured
from plm_edge.bench.workload import Point, Workload
from plm_edge.building.cache import KeptBuild
from plm_edge.deploy import install
from plm_edge.deploy.device_engine import is_library
from plm_edge.deploy.place import Place
from plm_edge.devices.connect import OpenDevice
from plm_edge.devices.facts import Facts
from plm_edge.devices.transports.failures import CommandFailed
from plm_edge.devices.transports.transport import CommandResult
from plm_edge.model import gguf_file
from plm_edge.model import need as needs
from plm_edge.model.offload import Offload

# A reading is a way there and back; twice a second would be work for a small board.
REMOTE_INTERVAL = 2.0


def _folder_of(built: KeptBuild) -> str:
    """Where our programs go where nothing was deployed."""
    return f"bench/{built.manifest.key[:16]}"


class Device:
    """A device with the worker and a model on it: a `Site`.

    Args:
        opened: reached; its transport stays the caller's to close.
        built: an engine that fits it (`deploy.device_engine.require_fits`), with the worker.
        setting: the model is the file here; its threads are chosen where they are not said.
        facts: what it says of itself.

    Raises:
        PlmEdgeError: it lacks the memory (unless the setting says not to look).
    """

    extra: Mapping[str, str] = MappingProxyType({})  # variables that the worker gets besides

    def __init__(
        self, opened: OpenDevice, built: KeptBuild, setting: Setting, facts: Facts
    ) -> None:
        self.opened, self.built, self.facts = opened, built, facts
        self.transport = opened.transport
        self.setting = replace(
            setting, threads=setting.threads or install.threads_for(opened, facts)
        )
        self.host: Host | None = RemoteHost(opened.transport)
        self.sample_s = REMOTE_INTERVAL
        self._place = Place(opened.transport, opened.folder)
        self._folder = _folder_of(built)
        self._model = ""
        self._brought_model = False
        self._text: str | None = None

    def send(self, progress: install.Progress) -> int:
        """Send what is not there yet; bytes sent. `devices clean` removes it again.

        What `plm-edge deploy` put there of this build and model is used as it is.

        Args:
            progress: called with a file's name, bytes sent and bytes in all.
        """
        parts = [
            item
            for item in self.built.manifest.files
            if PurePosixPath(item.path).name == PROGRAM or is_library(item.path)
        ]
        deployed = f"engine/{self.built.manifest.key[:16]}"
        there = self._place.hashes([f"{deployed}/{item.path}" for item in parts])
        wanted: dict[str, tuple[Path, int]] = {}
        if all(there[f"{deployed}/{item.path}"] == item.sha256 for item in parts):
            self._folder = f"{deployed}/bin"
        else:
            sources = [self.built.folder / item.path for item in parts]
            wanted = {f"{self._folder}/{path.name}": (path, 0o755) for path in sources}
        model = self.setting.model
        self._model = f"models/{files.sha256(model)[:16]}/{model.name}"
        wanted[self._model] = (model, 0o644)
        self._place.announce(wanted)
        sent = 0
        for target, (source, mode) in wanted.items():

            def told(done: int, total: int, name: str = target) -> None:
                progress(name, done, total)

            if self.transport.put(source, self._place.path(target), mode=mode, progress=told):
                sent += source.stat().st_size
                self._brought_model |= target == self._model
        if self.setting.text:
            self._text = f"{_folder_of(self.built)}/text"
            self._place.announce([self._text])
            self._place.write(self._text, self.setting.text)
        return sent

    def take_back(self) -> None:
        """Remove the model there, if it was not there before."""
        if self._brought_model:
            self._place.drop(str(PurePosixPath(self._model).parent))
            self._brought_model = False

    def path(self, name: str) -> str:
        """Where a program of ours lies there."""
        return self._place.path(self._folder, name)

    @property
    def model_path(self) -> str:
        """Where the model lies there."""
        return self._place.path(self._model)

    def environment(self) -> dict[str, str]:
        """Variables for programs of ours."""
        return {"LD_LIBRARY_PATH": self._place.path(self._folder), "GGML_NO_BACKTRACE": "1"}

    def head(self) -> Head:
        made, facts = self.built.manifest, self.facts
        engine = Engine(
            name="plm-edge", pin=made.pin, tree=made.tree, compiler=made.compiler,
            cpu_flags=list(made.requires), folder=str(self.built.folder),
        )  # fmt: skip
        machine = Machine(
            device=self.opened.name, cpu=facts.cpu, arch=facts.machine,
            features=list(facts.features),
            cores_logical=sum(group.count for group in facts.groups) or None,
            ram_bytes=facts.ram, governor=self._governor(), kernel=facts.kernel,
            system=" ".join(filter(None, (facts.system, facts.model, facts.libc))),
            load_before=self._load(),
        )  # fmt: skip
        return Head(engine, machine, environment.model(self.setting.model))

    def _governor(self) -> str | None:
        path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
        return self.host.read(path) if self.host else None

    def _load(self) -> list[float] | None:
        words = (self.host.read("/proc/loadavg") or "").split()[:3] if self.host else []
        try:
            return [float(word) for word in words] or None
        except ValueError:
            return None

    def measure(self, workload: Workload, point: Point, on_sample: OnSample) -> Measured:
        self._require_memory(point)
        reader = PointReader(point, on_sample)
        text = self._place.path(self._text) if self._text else None
        request = point_request(self.setting, workload, point, self.model_path, text)
        self.ask([request], reader, f"measuring {point.name}")
        if not reader.complete:
            raise self._ended(reader, f"measuring {point.name}", "it gave no result")
        return reader.finish(self.setting)

    def ask(self, requests: list[Request], answers: Answers, what: str) -> None:
        """Let the program there answer, in a process of its own.

        Args:
            what: that it does, for errors.

        Raises:
            PlmEdgeError: its own error, or it died, or the device cannot be reached.
        """
        done = self._run(requests, answers)
        if answers.error:
            raise answers.error
        error = self.transport.failure(done)
        if error and not isinstance(error, CommandFailed):
            raise error
        if error:
            raise self._ended(answers, what, error.why) from answers.cause

    def _run(self, requests: list[Request], answers: Answers) -> CommandResult:
        return self.transport.run(
            [self.path(PROGRAM)],
            env={**self.environment(), **self.extra},
            stdin=encode(requests),
            on_stdout=answers.out,
            on_stderr=answers.err,
        )

    def _ended(self, answers: Answers, what: str, why: str) -> PlmEdgeError:
        return PlmEdgeError(
            f"the engine ended on {self.opened.name} while {what}",
            answers.complaint or why,
            "lower the depth or the number of sequences if memory is short; else run it again with "
            "--debug, and report what it prints",
            ExitCode.DEVICE,
        )

    def _require_memory(self, point: Point) -> None:
        room = self.facts.ram_available
        if not self.setting.check_memory or room is None or point.kind == "load":
            return
        header = gguf_file.read(self.setting.model)
        need = needs.of(header, point.n_ctx, self.setting.kv, self.setting.n_ubatch)
        need = need.of_share(self.setting.share_here)
        if need.total > room:
            raise PlmEdgeError(
                f"{self.setting.model.name} does not fit the memory of {self.opened.name}",
                f"{point.name} takes about {need.total / 2**20:,.0f} MiB, and "
                f"{room / 2**20:,.0f} MiB are available there",
                f"{SMALLER}, or insist with --force",
                ExitCode.RESOURCES,
            )

    def offload(self, n_ctx: int, n_outputs: int) -> Offload | None:
        if not self.built.manifest.backend:
            return None

        def ask() -> list[Event]:
            answers = Answers()
            self.ask([placing.REQUEST], answers, "looking for GPUs")
            return answers.events

        engine = f"the engine on {self.opened.name}"
        self.setting, found = placing.place(self.setting, ask, n_ctx, n_outputs, engine)
        return found

    def capability(self, threads: int) -> Capability | None:
        unknown = 8 * kernels.LARGEST * threads  # then as much as is wanted
        size = kernels.room(threads, self.facts.ram_available or unknown)
        answers = Answers()
        done = self._run(capability.requests(threads, size), answers)
        if done.exit_code or answers.error:
            return None
        return capability.of_answers(threads, size, answers.events)
