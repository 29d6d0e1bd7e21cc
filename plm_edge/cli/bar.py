"""A bar on stderr follows what tells its progress in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """Shows a `base.progress.Progress` as a bar, from the moment that it begins."""

    def __init__(self, display: Progress, what: str) -> None:
        self._display = display
        self._what = what
        self._task: TaskID | None = None
        self._before = 0  # what was there before it began, of a download that goes on

    def begin(self, total: int) -> None:
        """Draw the bar; `total` in bytes."""
        self._task = self._display.add_task(self._what, total=total, completed=self._before)

    def advance(self, count: int) -> None:
        """Move it by so many bytes."""
        if self._task is None:
            self._before += count
        else:
            self._display.advance(self._task, count)
