"""Conversions on disks that are full or broken, real ones: a small tmpfs, and a file system whose
disk loses its second half while it is read.

Mounting takes rights that not every machine gives. Where it fails, the tests are skipped;
test_interrupted.py raises the same errors by other means.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import ExitCode
from testkit import needs
from testkit.checkpoints import write_checkpoint
from tests.converters.conftest import SHAPE_256

# Converts to `out` twice; between them, and before the first block of rows, runs a shell's command.
# Tells what each left, as what is mounted is seen by these processes alone.
PROGRAM = """
import json, os, subprocess, sys
from pathlib import Path
from converters import convert as conversion

source, again, out, during, between, reserves = sys.argv[1:]
out = Path(out)
if not int(reserves):
    def refused(*_):
        raise OSError(95, "Operation not supported")
    os.posix_fallocate = refused

def attempt(source, command):
    class Progress:
        def begin(self, total):
            subprocess.run(command, shell=True, stderr=subprocess.DEVNULL)
        def advance(self, count):
            pass
    code, said = 0, ""
    try:
        conversion.convert(Path(source), out=out, quant="q8_0", progress=Progress(), threads=2)
    except conversion.PlmEdgeError as error:
        code, said = int(error.code), str(error)
    left = sorted(path.name for path in out.parent.iterdir())
    return {"code": code, "said": said, "left": left, "begins": out.read_bytes()[:4].decode()}

out.write_bytes(b"old")
first = attempt(source, during)
subprocess.run(between, shell=True, check=True)
print(json.dumps([first, attempt(again, "true")]))
"""
MOUNTED = '{mount} || exit 99\nshift\nexec "$@"'


def inside(mount: str, place: Path, program: list[str]) -> list[dict[str, Any]]:
    """What PROGRAM tells where the shell's command `mount` mounted something at "$1", `place`."""
    needs.programs("unshare", "mount")
    own = [] if os.geteuid() == 0 else ["--map-root-user"]
    shell = ["unshare", *own, "--mount", "sh", "-c", MOUNTED.format(mount=mount), "sh", str(place)]
    done = subprocess.run(
        [*shell, sys.executable, "-c", PROGRAM, *program],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"needs to mount, as root can: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


def failed_cleanly(told: dict[str, Any], code: ExitCode, *expected: str) -> None:
    assert told["code"] == code, told
    assert all(part in told["said"] for part in expected), told
    assert len(told["said"].splitlines()) == 3
    assert (told["left"], told["begins"]) == (["m.gguf"], "old")


def succeeded(told: dict[str, Any]) -> None:
    assert (told["code"], told["left"], told["begins"]) == (0, ["m.gguf"], "GGUF"), told


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("failing") / "checkpoint", SHAPE_256)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "mounted").mkdir()
    return tmp_path / "mounted"


def tmpfs(size: int) -> str:
    return f'mount -t tmpfs -o size={size} none "$1"'


def test_a_disk_that_is_too_small(source: Path, place: Path) -> None:
    """Refused before anything is written; with room, the next run succeeds."""
    grow = f"mount -o remount,size=100M '{place}'"
    program = [str(source), str(source), str(place / "m.gguf"), "true", grow, "1"]
    first, again = inside(tmpfs(1 << 20), place, program)
    failed_cleanly(first, ExitCode.RESOURCES, "not enough disk space", "MiB left")
    succeeded(again)


def test_a_disk_that_others_fill_meanwhile(source: Path, place: Path) -> None:
    """ENOSPC from the kernel halfway, on a file system that cannot reserve space."""
    others = place.parent / "mounted/others"
    out = place / "out/m.gguf"
    mount = f'{tmpfs(32 << 20)} && mkdir "$1/out"'
    fill = f"cat /dev/zero > '{others}'"
    program = [str(source), str(source), str(out), fill, f"rm '{others}'", "0"]
    first, again = inside(mount, place, program)
    failed_cleanly(first, ExitCode.RESOURCES, "cannot write", "No space left on device")
    succeeded(again)


def test_a_disk_that_cannot_be_read_to_its_end(source: Path, place: Path) -> None:
    """EIO from the kernel: the loop device under the source's file system loses its data."""
    make = needs.program("mkfs.ext4")
    image, out = place.parent / "image", place.parent / "out/m.gguf"
    out.parent.mkdir()
    size = sum(path.stat().st_size for path in source.iterdir())
    subprocess.run(
        [make, "-q", "-m", "0", "-d", str(source), str(image), f"{size // 1024 + 4096}k"],
        check=True,
        capture_output=True,
    )
    # Without what the kernel has read ahead of the data, or there may be nothing left to fail.
    forget = f"dd if='{place}/model.safetensors' iflag=nocache count=0"
    cut = f"truncate -s {size // 2} '{image}' && {forget}"
    program = [str(place), str(source), str(out), cut, "true", "1"]
    first, again = inside(f"mount -o loop,ro '{image}' \"$1\"", place, program)
    failed_cleanly(first, ExitCode.INPUT, "cannot read model.safetensors", "Input/output error")
    succeeded(again)
