"""The options of a call of `plm-edge bench`: what is measured, where, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.worker.client import Setting
from plm_edge.cli import options
from plm_edge.cli.model import say_which
from plm_edge.engine import accelerators
from plm_edge.quality import text as texts
from plm_edge.store import choice as model_choice


@dataclass(frozen=True)
class Request:
    """The options that say what is measured.

    Attributes:
        model: a GGUF, or the name of a model.
        gpu: what --gpu says; None where it was not given.
        budget: seconds a point; None: the workload's.
        text: a file whose tokens are taken; None: random ones.
        sustained: how long to decode without a pause, in words such as 5m.
    """

    model: str | None
    threads: int | None = None
    kv: str = "f16"
    gpu: str | None = None
    budget: float | None = None
    text: Path | None = None
    force: bool = False
    workload: str | None = None
    sustained: str | None = None

    def setting(self) -> Setting:
        """How the chosen model is run; says on stderr which model that is.

        Raises:
            PlmEdgeError: there is no such model, or no such text.
        """
        choice = model_choice.choose(self.model)
        say_which(choice)
        return self.setting_of(choice.path)

    def setting_of(self, model: Path) -> Setting:
        """How `model` is run.

        Raises:
            PlmEdgeError: the text cannot be read, or --gpu says nothing.
        """
        return Setting(
            model,
            threads=self.threads,
            kv=self.kv,
            gpu_layers=accelerators.parse_layers(self.gpu or "auto"),
            check_memory=not self.force,
            text=None if self.text is None else texts.read(self.text),
        )


@dataclass(frozen=True)
class Places:
    """The options that say where. `engine`: a build of the engine for the devices."""

    names: tuple[str, ...] = ()
    engine: Path | None = None
    estimate: bool = False
    emulate: bool = False

    @classmethod
    def of(
        cls,
        names: list[str] | None,
        host: str | None,
        engine: Path | None,
        estimate: bool = False,
        emulate: bool = False,
    ) -> Places:
        """What --device, --host, --engine and the modes say.

        Args:
            host: the address of the one device, where it was said apart.

        Raises:
            PlmEdgeError: an address for none, for several, or a second one (code USAGE).
        """
        named = tuple(names or ())
        if host is not None:
            if len(named) != 1 or "@" in named[0]:
                raise PlmEdgeError(
                    "--host is the address of one device",
                    f"there are {len(named)}"
                    if len(named) != 1
                    else f"{named[0]} names one already",
                    "say --device NAME@HOST for each instead",
                    ExitCode.USAGE,
                )
            named = (f"{named[0]}@{host}",)
        return cls(named, engine, estimate, emulate)

    def check(self) -> None:
        """Refuse options that are about devices when none is named.

        Raises:
            PlmEdgeError: one was given (code USAGE).
        """
        if self.names:
            return
        if self.estimate or self.emulate:
            mode = "--estimate" if self.estimate else "--emulate"
            raise options.without_device(mode, "this machine is measured")
        if self.engine:
            raise no_effect("--engine", "this machine", "it is for --device: this one has its own")

    def require_one(self, command: str) -> None:
        """Refuse several devices.

        Raises:
            PlmEdgeError: there are several (code USAGE).
        """
        if len(self.names) > 1:
            raise PlmEdgeError(
                f"{command} is of one device",
                f"there are {len(self.names)}",
                "run it for each of them",
                ExitCode.USAGE,
            )


@dataclass(frozen=True)
class Output:
    """How the result is shown. `html`: a report goes there as well."""

    json: bool
    csv: bool = False
    html: Path | None = None

    def check(self) -> None:
        """Find out before minutes of measuring whether the result can be shown.

        Raises:
            PlmEdgeError: both JSON and CSV are wanted (code USAGE), matplotlib is not installed, or
                the place of the report cannot be written.
        """
        if self.json and self.csv:
            raise no_effect("--csv", "--json", "stdout takes one of the two")
        check_html(self.html)


def no_effect(option: str, mode: str, why: str) -> PlmEdgeError:
    """The error for an option that would be ignored."""
    return PlmEdgeError(
        f"{option} has no effect with {mode}", why, f"leave {option} out", ExitCode.USAGE
    )


def check_html(path: Path | None) -> None:
    """Find out before minutes of measuring whether a report can be drawn and written.

    Raises:
        PlmEdgeError: matplotlib is not installed, or the place cannot be written.
    """
    from plm_edge.bench.render import charts, report

    if path is not None:
        with charts.canvas():
            pass
        report.check_place(path)
