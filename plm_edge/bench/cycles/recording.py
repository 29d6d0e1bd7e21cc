"""What a program of a device executes for one operation, recorded under qemu here.

bench-plm-cycles (benchmarks/native) is built as the engine for the device is: the same compiler and
flags, and of the engine ggml alone.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.cycles.simulator import Words
from plm_edge.bench.worker import counting
from plm_edge.building import build, cache
from plm_edge.building.cmake import Progress
from plm_edge.building.target import require_buildable, target_of
from plm_edge.devices.profiles.profile import Profile
from plm_edge.devices.transports.qemu import QemuTransport

PROGRAM = "bench-plm-cycles"


@dataclass(frozen=True)
class Recording:
    """One operation.

    Attributes:
        words: its instructions in the order of their execution, uint32 [n].
        n_bytes: of weights or of cache that it reads.
    """

    words: Words
    n_bytes: int


def compile_for(profile: Profile, progress: Progress | None = None) -> Path:
    """bench-plm-cycles for a device; only what changed is compiled again.

    Raises:
        PlmEdgeError: a tool is missing, or it does not compile.
    """
    target = target_of(profile, gpu=False)
    require_buildable(target)
    name = f"cycles-{profile.name}"
    with cache.lock(name):
        folder = cache.work(name)
        folder.mkdir(parents=True, exist_ok=True)
        made = build.compile_only(target, (PROGRAM,), folder, progress)
        return made / "bin" / PROGRAM


class Recorder:
    """Runs a device's program under qemu.

    Args:
        profile: the device's, which names the emulator.

    Raises:
        PlmEdgeError: qemu is not installed, or takes no plugin.
    """

    def __init__(self, profile: Profile, program: Path) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        home = Path(self._scratch.name)
        qemu = QemuTransport(profile, home)
        self._command = qemu.program([str(program)])
        self._code, self._counts = home / "code", home / "counts"
        try:
            self._counter = counting.Counter(qemu.emulator, profile.arch)
        except counting.NotCounted as reason:
            raise PlmEdgeError(
                f"what {profile.name} executes cannot be recorded here",
                str(reason),
                "install a C compiler and qemu 7 or newer (Debian: apt install gcc qemu-user)",
                ExitCode.ENVIRONMENT,
            ) from None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def record(self, arguments: Sequence[str]) -> Recording:
        """What the program executes between its marks.

        Raises:
            PlmEdgeError: it failed.
        """
        self._counts.unlink(missing_ok=True)
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._counter.environment(self._counts, self._code),
            capture_output=True,
            text=True,
        )
        counted = counting.between_marks(self._counts)
        if done.returncode or len(counted) != 1:
            raise PlmEdgeError(
                f"{PROGRAM} {' '.join(arguments)} failed under qemu",
                (done.stderr.strip().splitlines() or ["it made no marks"])[-1],
                "build it again, and report it if it stays so",
                ExitCode.ENVIRONMENT,
            )
        words = np.fromfile(self._code, dtype="<u4")
        return Recording(words, int(done.stdout or 0))
