"""Progress of `plm-edge bench` on stderr: what runs, how many steps are done, how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from plm_edge.base import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class TerminalDisplay:
    """Shows steps on a Rich progress display: what runs, how many are done, how long it takes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._what = ""
        self._steps = 0
        self._left = ""

    def another(self) -> TerminalDisplay:
        """For a run beside this one: a line of its own."""
        return TerminalDisplay(self._progress)

    @contextmanager
    def sending(self) -> Iterator[Callable[[str, int, int], None]]:
        """A function to tell of bytes or steps on the way: what, done, in all; its lines go."""
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, total: int) -> None:
            key = what.partition(": ")[0]
            if key not in tasks:
                tasks[key] = self._progress.add_task("", total=total)
            self._progress.update(
                tasks[key], completed=done, total=total, description=console.printable(what)
            )

        try:
            yield told
        finally:
            for task in tasks.values():
                self._progress.remove_task(task)

    def begin(self, points: int, seconds: float) -> None:
        self._task = self._progress.add_task("", total=points + 1)
        console.note(f"{points} steps, about {console.duration(seconds)}")

    def step(self, what: str) -> None:
        assert self._task is not None
        self._what = what
        self._progress.update(self._task, completed=self._steps, description=what + self._left)
        self._steps += 1

    def left(self, seconds: float) -> None:
        self._left = f", about {console.duration(seconds)} left" if seconds else ""

    def sample(self, n: int, interval: float | None) -> None:
        assert self._task is not None
        spread = f", ±{100 * interval:.1f} %" if interval is not None else ""
        self._progress.update(self._task, description=f"{self._what}: {n}{spread}{self._left}")


@contextmanager
def display() -> Iterator[TerminalDisplay]:
    """A display on stderr that draws nothing where nobody looks."""
    with console.progress(in_bytes=False) as progress:
        yield TerminalDisplay(progress)
