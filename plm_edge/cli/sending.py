"""What commands share that put files on a device: bars, and a note which device carries some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from plm_edge.base import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def bars(display: Progress) -> Callable[[str, int, int], None]:
    """Returns what draws a bar for each file: it is told its path, bytes done, bytes in all."""
    tasks: dict[str, TaskID] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = display.add_task(console.printable(Path(what).name), total=total)
        display.update(tasks[what], completed=done)

    return progress


def remember(device: str) -> None:
    """Remember that a device carries something of ours."""
    from plm_edge.deploy import carriers

    try:
        carriers.remember(device)
    except OSError as error:
        console.warn(f"it is there, but `plm-edge uninstall` will not name the device: {error}")
