"""This module listens to llama.cpp's log: keeps it quiet, remembers it, reads figures from it.

llama.cpp says on its log alone how large its cache and compute buffers are and why a load
failed. One listener is installed for the whole process, because the log is one for all models.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20
WARN, ERROR, CONTINUED = 3, 4, 5  # ggml_log_level

_KV = re.compile(
    r"size = +(?P<mib>[\d.]+) MiB \( *(?P<cells>\d+) cells, +(?P<layers>\d+) layers, .*"
    r"K \((?P<type>\w+)\): +(?P<k>[\d.]+) MiB, V \(\w+\): +(?P<v>[\d.]+) MiB"
)
_WEIGHTS = re.compile(r"(\S+) model buffer size = +([\d.]+) MiB")
_KV_BUFFER = re.compile(r"(\S+) KV buffer size = +([\d.]+) MiB")
_COMPUTE = re.compile(r"(\S+) compute buffer size = +([\d.]+) MiB")
_COPIES = re.compile(r"(\S+) lacks MUL_MAT_SPARSE_T: transposed weights take +([\d.]+) MiB")
_SPLITS = re.compile(r"graph.*: nodes = .*, splits = (\d+)(?: / (\d+))?,")


@dataclass(frozen=True)
class KVReport:
    """What the engine said about its cache. Bytes are read from MiB with two decimals."""

    n_bytes: int
    k_bytes: int
    v_bytes: int
    cells: int
    layers: int
    type: str

    @property
    def rounding(self) -> int:
        """How far `n_bytes` may be off, in bytes."""
        return int(0.005 * MIB) + 1


class EngineLog:
    """The listener. `echo` also copies every line to stderr (`--debug`).

    `loading` is held while a model is loaded, so that the figures heard meanwhile are that model's.
    """

    def __init__(self) -> None:
        self.echo = False
        self.loading = threading.Lock()
        self._hearing = threading.Lock()  # a file's vocabulary is made in a thread of its own
        self._lines: deque[tuple[int, str]] = deque(maxlen=2000)
        self._partial = ""
        self._level = 0
        self._callback: Any = None

    def install(self, bindings: Any) -> None:
        """Make llama.cpp and ggml log here. The callback must outlive every call: kept."""
        if self._callback is None:
            self._callback = bindings.llama_log_callback(self._listen)
        bindings.llama_log_set(self._callback, None)

    def clear(self) -> None:
        """Forget what was heard."""
        self._lines.clear()
        self._partial = ""

    def forget_errors(self) -> None:
        """Forget the errors that were heard, so that `reason` is about what comes now."""
        kept = [(level, line) for level, line in self._heard() if level != ERROR]
        self._lines.clear()
        self._lines.extend(kept)

    def _listen(self, level: int, text: bytes, _user_data: object) -> None:
        try:
            decoded = text.decode("utf-8", errors="replace")
            if self.echo:
                sys.stderr.write(decoded)
            with self._hearing:
                if level != CONTINUED:
                    self._level = level
                *whole, self._partial = (self._partial + decoded).split("\n")
                self._lines.extend((self._level, line) for line in whole if line)
        except Exception:
            # An exception cannot cross the C frames below; a log line is not worth a crash.
            self._partial = ""

    def _heard(self) -> list[tuple[int, str]]:
        """What was heard until now: other threads' models go on speaking while it is read."""
        return list(self._lines)

    @property
    def text(self) -> str:
        """Everything that was heard since the last `clear`."""
        return "\n".join(line for _, line in self._heard())

    def reason(self) -> str:
        """Returns why the last call failed, in llama.cpp's words: the first error is the cause."""
        errors = [line for level, line in self._heard() if level == ERROR]
        cause = errors[0] if errors else ""
        # "llama_model_load: error loading model: X" → "X"
        for prefix in ("error loading model: ", "failed to initialize the context: "):
            for line in errors:
                if prefix in line:
                    return line.split(prefix, 1)[1]
        return re.sub(r"^\w+: ", "", cause)

    def kv(self) -> KVReport | None:
        """Returns the cache's size in all its parts, or None when the model has none."""
        found = [match for _, line in self._heard() if (match := _KV.search(line))]
        if not found:
            return None
        return KVReport(
            n_bytes=sum(_bytes(m["mib"]) for m in found),
            k_bytes=sum(_bytes(m["k"]) for m in found),
            v_bytes=sum(_bytes(m["v"]) for m in found),
            cells=max(int(m["cells"]) for m in found),
            layers=sum(int(m["layers"]) for m in found),
            type=found[0]["type"],
        )

    def weight_bytes(self) -> dict[str, int]:
        """Returns the bytes of the weights in each kind of buffer, such as CPU and CPU_REPACK."""
        return self._by_buffer(_WEIGHTS)

    def copies_by_buffer(self) -> dict[str, int]:
        """Returns the bytes of transposed weights beside the file's, by kind of buffer: on devices
        without the sparse product."""
        return self._by_buffer(_COPIES)

    def kv_by_buffer(self) -> dict[str, int]:
        """Returns the bytes of the cache in each kind of buffer."""
        return self._by_buffer(_KV_BUFFER)

    def compute_by_buffer(self) -> dict[str, int]:
        """Returns the bytes of the compute buffers of each device."""
        return self._by_buffer(_COMPUTE)

    def compute_bytes(self) -> int:
        """Returns the bytes of the compute buffers on all devices."""
        return sum(self.compute_by_buffer().values())

    def splits(self) -> tuple[int, int] | None:
        """Returns into how many parts the graph is cut, each on one device: of a micro-batch and of
        one token; of the last context. None where nothing was said."""
        found = [match for _, line in self._heard() if (match := _SPLITS.search(line))]
        return (int(found[-1][1]), int(found[-1][2] or found[-1][1])) if found else None

    def _by_buffer(self, pattern: re.Pattern[str]) -> dict[str, int]:
        """The sums of a figure by the name in front of it."""
        found: dict[str, int] = {}
        for _, line in self._heard():
            if match := pattern.search(line):
                found[match[1]] = found.get(match[1], 0) + _bytes(match[2])
        return found


def _bytes(mib: str) -> int:
    return round(float(mib) * MIB)


def read_log(text: str) -> EngineLog:
    """Returns a listener that has heard `text`: what an engine elsewhere wrote."""
    heard = EngineLog()
    heard._lines.extend((WARN, line) for line in text.splitlines())
    return heard


engine_log = EngineLog()
