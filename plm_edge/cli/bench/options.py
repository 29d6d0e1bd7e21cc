"""Options that several commands of `plm-edge bench` share: spelling, help and limits of each.

Typer reads a command's options off its function's signature, so each function lists those it takes.
A decorator that added groups of them would hide from a reader, and from mypy, which these are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[
    str | None,
    typer.Argument(
        help="A checkpoint's folder, or a GGUF (or the name of one) in f32, bf16, f16 or q8_0. "
        "Without it: the bundled tiny model.",
        show_default=False,
    ),
]
Workload = Annotated[
    str | None,
    typer.Option(
        help="What to measure: smoke, quick, standard, long or llama-bench.",
        show_default="standard",
    ),
]
GpuLayers = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        "-ngl",
        "--gpu-layers",
        metavar="auto|off|all|N",
        help="Layers on the GPU, counted from the end: the output first. auto: as many as fit its "
        "free memory. On this machine, all or N also look for a kept build of the engine that has "
        "a GPU.",
        show_default="auto",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(min=0.1, help="Seconds to measure each point.", show_default="the workload's"),
]
Text = Annotated[
    Path | None,
    typer.Option(help="Measure with the tokens of this text.", show_default="random tokens"),
]
Sustained = Annotated[
    str | None, typer.Option(help="Decode this long without a pause, such as 5m.")
]
Devices = Annotated[
    list[str] | None,
    typer.Option("--device", help="NAME or NAME@HOST; several are measured side by side."),
]
Host = Annotated[str | None, typer.Option(help="Address of the one device.")]
Engine = Annotated[
    Path | None,
    typer.Option(help="A folder that `engine build` made for the device.", show_default="its own"),
]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV: one line a point.")]
Html = Annotated[Path | None, typer.Option(help="Write a report with plots here.")]
History = Annotated[bool, typer.Option("--history/--no-history", help="Remember the result.")]
Force = Annotated[bool, typer.Option("--force", help="Load even if memory is short.")]
