"""Arguments and options that several commands share, with one meaning and one help text."""

from __future__ import annotations

import os
import sys
from enum import Enum
from typing import Annotated

import typer

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.approximations import EXACT_VARIABLE

debug_wanted = False


def without_device(mode: str, instead: str) -> PlmEdgeError:
    """The error for an option about a device, when no device is named.

    Args:
        mode: the option, such as --emulate.
        instead: a clause that says what happens without --device.
    """
    return PlmEdgeError(
        f"{mode} is for another device",
        f"without --device, {instead}",
        f"name one, such as --device rpi5 {mode}; the list: plm-edge devices",
        ExitCode.USAGE,
    )


def not_on_device(device: str) -> PlmEdgeError:
    """The error for an option about how this machine computes, where a device does."""
    return PlmEdgeError(
        "--rpc, --mlock and --prompt-cache are for this machine",
        f"{device} computes by itself what was deployed there, and keeps no prompts",
        "leave them out, or leave --device out",
        ExitCode.USAGE,
    )


def _exact(wanted: bool) -> bool:
    """The engine asks the environment, here and in each program that is started."""
    if wanted:
        os.environ[EXACT_VARIABLE] = "1"
    return wanted


def confirm(question: str, yes: bool) -> None:
    """Ask before something is done that cannot be undone; ends the command if the answer is no.

    Raises:
        PlmEdgeError: there is nobody to ask, and --yes is not there (code USAGE).
    """
    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise PlmEdgeError(
            "nothing was done",
            "it must be confirmed, and there is no terminal to ask on",
            "look at what would go, then say --yes",
            ExitCode.USAGE,
        )
    if not typer.confirm(question, err=True):
        console.note("nothing was done")
        raise typer.Exit(ExitCode.OK)


def _set_debug(value: bool) -> bool:
    global debug_wanted
    debug_wanted = debug_wanted or value
    return value


def _set_quiet(value: bool) -> bool:
    if value:
        console.set_quiet(True)
    return value


class KVType(str, Enum):
    """The types of the KV cache that a person can choose."""

    f16 = "f16"
    q8_0 = "q8_0"
    q4_0 = "q4_0"


def model_names(incomplete: str) -> list[str]:
    """What the shell offers for a model beside files."""
    from plm_edge.store import names, registry

    return [name for name in names.all_names(registry.known()) if name.startswith(incomplete)]


def added_devices(incomplete: str) -> list[str]:
    """What the shell offers for a device that was added."""
    from plm_edge.devices.profiles import known

    return [name for name in known.devices() if name.startswith(incomplete)]


def known_devices(incomplete: str) -> list[str]:
    """What the shell offers for a device that was added, or a profile."""
    from plm_edge.devices.profiles import known, profile

    names = dict.fromkeys([*known.devices(), *profile.names()])
    return [name for name in names if name.startswith(incomplete)]


Model = Annotated[
    str | None,
    typer.Argument(
        help="A GGUF file, or a name that plm-edge list shows. Without it: PLM_EDGE_MODEL, else "
        "the newest that was converted, pulled or added, else the bundled tiny model.",
        show_default=False,
        autocompletion=model_names,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=512, help="Most threads that compute.", show_default="one a big core"),
]
KV = Annotated[KVType, typer.Option(help="Type of the KV cache.")]
FittingKV = Annotated[
    KVType | None,
    typer.Option(
        "--kv", help="Type of the KV cache.", show_default="f16, a smaller one if memory is short"
    ),
]
Ctx = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Tokens of context.",
        show_default="the model's, at most 4096; fewer if memory is short",
    ),
]
Temp = Annotated[float, typer.Option(help="Temperature; 0 is greedy.")]
TopK = Annotated[int, typer.Option(help="Draw from the likeliest tokens; 0: all.")]
TopP = Annotated[float, typer.Option(help="Draw from this share of probability.")]
MinP = Annotated[float, typer.Option(help="Drop what is below this share of the best.")]
Seed = Annotated[
    int | None, typer.Option(help="Seed of the random numbers.", show_default="random")
]
Force = Annotated[bool, typer.Option("--force", help="Load even if memory is short.")]
Gpu = Annotated[
    str,
    typer.Option(
        "--gpu",
        "-ngl",
        metavar="auto|off|all|N",
        help="Layers on the GPU, counted from the end: the output first. auto: as many as fit its "
        "free memory, if the engine has one; all or N also look for a kept build that has.",
    ),
]
GpuThere = Annotated[
    str,
    typer.Option(
        "--gpu",
        "-ngl",
        metavar="auto|off|all|N",
        help="Layers on the device's GPU, where its engine has a backend for one. run and serve "
        "then take as many, unless they are told otherwise.",
    ),
]
Rpc = Annotated[
    str | None,
    typer.Option(
        "--rpc",
        metavar="HOST:PORT,…",
        help="Other machines that compute layers (plm-edge rpc runs there). For trusted networks "
        "alone: nothing is encrypted, and there is no key.",
        show_default=False,
    ),
]
MLock = Annotated[
    bool, typer.Option("--mlock", help="Keep the weights in memory, never swapped out.")
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        callback=_exact,
        envvar=EXACT_VARIABLE,
        help="Approximate nothing (docs/run.md).",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
PromptCache = Annotated[
    str | None,
    typer.Option(
        "--prompt-cache",
        metavar="SIZE",
        envvar="PLM_EDGE_PROMPT_CACHE",
        help="Most disk for kept prompts, such as 500M; off keeps none. (See plm-edge cache.)",
        show_default="2G, at most 5 % of what is free",
    ),
]
NoPromptCache = Annotated[
    bool, typer.Option("--no-prompt-cache", help="Keep no prompt on disk, and read none.")
]


def prompts(size: str | None, off: bool) -> str | None:
    """Returns what --prompt-cache and --no-prompt-cache say together: a size, off, or nothing."""
    return "off" if off else size


NoSpeculate = Annotated[
    bool,
    typer.Option(
        "--no-speculate",
        help="Guess no tokens ahead. (The text is the same with guesses and without.)",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", callback=_set_debug, help="Show tracebacks and the engine's own log on stderr."
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=_set_quiet, help="No notes, no progress on stderr."),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", callback=_set_quiet, help="One JSON object on stdout, with a versioned schema."
    ),
]
OnDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Run it there, where `deploy` put it.",
        show_default=False,
        autocompletion=added_devices,
    ),
]
# A model is deployed to a real machine; to explain or to build for, a profile is enough.
_ADDED = "A device that you added, or PROFILE@HOST."
_KNOWN = "A profile, or a device that you added."
Device = Annotated[
    str,
    typer.Option("--device", help=_ADDED, show_default=False, autocompletion=added_devices),
]
AddedDevice = Annotated[str, typer.Argument(help=_ADDED, autocompletion=added_devices)]
KnownDevice = Annotated[str, typer.Argument(help=_KNOWN, autocompletion=known_devices)]
BuiltFor = Annotated[str, typer.Option("--device", help=_KNOWN, autocompletion=known_devices)]
Emulate = Annotated[
    bool, typer.Option("--emulate", help="Use qemu on this machine in place of the device.")
]
