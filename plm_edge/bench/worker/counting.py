"""Instructions that an emulated program executes, by a plugin of qemu's that is compiled here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from plm_edge.base import folders

_SOURCE = Path(__file__).with_name("count.c")
VERSIONS = range(1, 7)  # of the plugin interface: each qemu takes some of them
_GETPPID = {"aarch64": 173, "riscv64": 173, "x86_64": 110}


class NotCounted(Exception):
    """Why instructions cannot be counted here, in words."""


class Counter:
    """Counts for one emulator.

    Args:
        emulator: path of qemu's user-mode program.
        arch: of the emulated machine, by uname -m.
        folder: where the compiled plugin is kept; None: the cache.

    Raises:
        NotCounted: no compiler, or this qemu takes no plugins.
    """

    def __init__(self, emulator: str, arch: str, folder: Path | None = None) -> None:
        self._call = _GETPPID.get(arch, 0)
        self._plugin = _plugin(emulator, folder or folders.cache() / "qemu-plugins")

    def environment(self, out: Path, code: Path | None = None) -> dict[str, str]:
        """Variables with which the emulator counts into `out`: a number at each mark.

        Args:
            code: gets the words of all instructions between marks, in the order of their execution.
        """
        recorded = f",code={code}" if code else ""
        return {"QEMU_PLUGIN": f"file={self._plugin},out={out},call={self._call}{recorded}"}


def between_marks(out: Path) -> list[int]:
    """Instructions of each sample: marks come in pairs, before and after it."""
    counts = [int(line) for line in out.read_text().split()] if out.is_file() else []
    return [end - start for start, end in zip(counts[::2], counts[1::2], strict=False)]


def _plugin(emulator: str, folder: Path) -> Path:
    """The plugin for an emulator: kept, or compiled and tried now."""
    qemu = Path(emulator).resolve().stat()
    told = f"{_SOURCE.read_text()}{emulator}{qemu.st_size}{qemu.st_mtime_ns}"
    target = folder / f"count-{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    if target.is_file():
        return target
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotCounted("a C compiler is needed for qemu's plugin, and there is none (cc)")
    folders.ensure(folder)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        made = Path(beside) / "count.so"
        complaint = ""
        for version in VERSIONS:
            command = [compiler, "-O2", "-shared", "-fPIC", f"-DVERSION={version}"]
            done = subprocess.run(
                [*command, "-o", str(made), str(_SOURCE)], capture_output=True, text=True
            )
            if done.returncode:
                raise NotCounted(f"the plugin does not compile: {_last(done.stderr)}")
            complaint = _refusal(emulator, made)
            if not complaint:
                made.replace(target)
                return target
    raise NotCounted(f"{Path(emulator).name} takes no such plugin: {complaint}")


def _refusal(emulator: str, plugin: Path) -> str:
    """What the emulator says against a plugin; empty: it takes it. It is given no program."""
    done = subprocess.run(
        [emulator, "-plugin", f"file={plugin},out=/dev/null,call=0", "/nonexistent"],
        capture_output=True,
        text=True,
    )
    # the plugin is loaded first; that there is no such program may be said or not
    return _last(done.stderr) if "plugin" in done.stderr.lower() else ""


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
