"""NVML, the library of NVIDIA's driver, says which GPUs there are, and counts their energy.

It is a part of the driver: where it is missing, there is none. Energy is counted since Volta, from
when the driver was loaded; before that there is power alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NAMES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
_SUCCESS = 0
_TEXT = 96  # bytes for any text


class NvmlMissing(Exception):
    """There is no NVML, or it does not answer; the text says why."""


@dataclass(frozen=True)
class Board:
    """An NVIDIA GPU.

    Attributes:
        name: of the product.
        total: bytes of its memory.
        free: bytes of it that are free.
    """

    name: str
    total: int
    free: int


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong),
    )  # fmt: skip


class Nvml:
    """NVML, opened.

    Args:
        names: of the library, tried in order; None: NAMES.

    Attributes:
        driver: the driver's version.

    Raises:
        NvmlMissing: it is not there, or finds no driver.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self._library = _load(NAMES if names is None else names)
        code = self._library.nvmlInit_v2()
        if code != _SUCCESS:
            raise NvmlMissing(self._reason(code))
        text = ctypes.create_string_buffer(_TEXT)
        self._ask("nvmlSystemGetDriverVersion", text, _TEXT)
        self.driver = text.value.decode(errors="replace")
        count = ctypes.c_uint()
        self._ask("nvmlDeviceGetCount_v2", ctypes.byref(count))
        self._handles = [ctypes.c_void_p() for _ in range(count.value)]
        for at, handle in enumerate(self._handles):
            self._ask("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(at), ctypes.byref(handle))

    def boards(self) -> list[Board]:
        """Returns the GPUs, in NVML's order."""
        found = []
        for handle in self._handles:
            text, memory = ctypes.create_string_buffer(_TEXT), _Memory()
            self._ask("nvmlDeviceGetName", handle, text, _TEXT)
            self._ask("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
            name = text.value.decode(errors="replace")
            found.append(Board(name, memory.total, memory.free))
        return found

    def energy(self) -> float | None:
        """Returns the joules of all GPUs since the driver was loaded; None if one counts none."""
        return self._sum("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)

    def power(self) -> float | None:
        """Returns the watts of all GPUs, a mean of about a second; None if one does not say."""
        return self._sum("nvmlDeviceGetPowerUsage", ctypes.c_uint)

    def _sum(self, function: str, kind: Any) -> float | None:
        """Of all GPUs, a figure in thousandths."""
        whole = 0
        for handle in self._handles:
            value = kind()
            if getattr(self._library, function)(handle, ctypes.byref(value)) != _SUCCESS:
                return None
            whole += value.value
        return whole / 1000 if self._handles else None

    def _ask(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != _SUCCESS:
            raise NvmlMissing(f"{function}: {self._reason(code)}")

    def _reason(self, code: int) -> str:
        text = self._library.nvmlErrorString
        text.restype = ctypes.c_char_p
        return str(text(code).decode(errors="replace"))


def _load(names: Sequence[str]) -> ctypes.CDLL:
    why = "no name was given"
    for at, name in enumerate(names):
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            why = why if at else f"{error}"
    raise NvmlMissing(why)
