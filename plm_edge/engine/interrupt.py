"""Ctrl-C is a wish that is read at the next safe moment, not an exception anywhere."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """While entered, the first SIGINT sets `pressed`; a second one raises KeyboardInterrupt.

    Pass an instance as `Options.stop`: calling it says whether to stop. Does nothing off the main
    thread, where Python allows no signal handlers.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._before: Any = None

    def __call__(self) -> bool:
        return self.pressed

    def reset(self) -> None:
        """Forget a SIGINT: what is begun next is not stopped by it."""
        self.pressed = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
