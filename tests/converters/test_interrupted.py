"""Interrupted conversions, by real signals to a process of their own, and its memory."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.convert import convert
from plm_edge.converters.write import memory, provenance
from testkit.checkpoints import (
    PlmShape,
    special_ids,
    tokenizer_json,
    write_checkpoint,
    write_json,
    write_tokenizer,
)
from tests.converters.conftest import SHAPE_256, said

# Sends itself a signal at one point: in the middle, whatever the speed of the machine.
PROGRAM = """
import json, os, resource, sys
from pathlib import Path
from converters import convert as conversion
from plm_edge.converters.write.writer import AtomicFile

source, out, quant, number, stage, size = sys.argv[1:]

def send(here):
    if here == stage and int(number):
        os.kill(os.getpid(), int(number))

class Progress:
    def begin(self, total): send("begin")
    def advance(self, count): send("block")

verify, commit = conversion.verify_written, AtomicFile.commit
def verified(*arguments):
    send("verify")
    return verify(*arguments)
def committed(self):
    send("commit")
    commit(self)
conversion.verify_written, AtomicFile.commit = verified, committed

if int(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
try:
    report = conversion.convert(
        Path(source), out=Path(out), quant=quant, progress=Progress(), threads=2
    )
except conversion.PlmEdgeError as error:
    print(error, file=sys.stderr)
    sys.exit(int(error.code))
print(json.dumps({"peak_rss": report.peak_rss, "seconds": report.seconds}))
"""


def run(
    source: Path, out: Path, quant: str, send: int = 0, stage: str = "block", size: int = 0
) -> subprocess.CompletedProcess[str]:
    """`size`: the largest file that the process may write, in bytes; 0 for any."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, source, out, quant, str(send), stage, str(size)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("interrupted") / "checkpoint", SHAPE_256)


STAGES = ("begin", "block", "verify", "commit")


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_leaves_the_old_file(source: Path, tmp_path: Path, stage: str) -> None:
    out = tmp_path / "m.gguf"
    out.write_bytes(b"old")
    done = run(source, out, "q4_k", signal.SIGINT, stage)
    assert "KeyboardInterrupt" in done.stderr
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == b"old"


def test_ctrl_c_leaves_none_where_there_was_none(source: Path, tmp_path: Path) -> None:
    assert "KeyboardInterrupt" in run(source, tmp_path / "m.gguf", "q4_k", signal.SIGINT).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_run_again(source: Path, tmp_path: Path, stage: str) -> None:
    """kill -9 leaves the unfinished file; the next run to the same target takes it over."""
    out = tmp_path / "m.gguf"
    out.write_bytes(b"old")
    done = run(source, out, "q4_k", signal.SIGKILL, stage)
    assert done.returncode == -signal.SIGKILL
    assert out.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"m.gguf", ".m.gguf.partial"}
    assert run(source, out, "q4_k").returncode == 0
    assert out.read_bytes()[:4] == b"GGUF"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("size", [1, 4096, 1_000_000])
def test_full_disk(source: Path, tmp_path: Path, size: int) -> None:
    """By the system's own limit on the size of a file, as quotas and full disks are."""
    out = tmp_path / "m.gguf"
    out.write_bytes(b"old")
    done = run(source, out, "q8_0", size=size)
    assert done.returncode == ExitCode.RESOURCES, done.stderr
    assert "cannot write" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 3
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize("failing", [0, 7, 60])
def test_disk_that_fails_while_it_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Full all the same after its space was reserved, as compressed file systems may be."""
    real, calls = os.pwrite, count()

    def pwrite(*arguments: Any) -> int:
        if next(calls) >= failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", pwrite)
    fails_cleanly(source, tmp_path, "cannot write", ExitCode.RESOURCES)


@pytest.mark.parametrize("failing", [0, 7, 60])
def test_disk_that_fails_while_it_is_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    real, calls = os.preadv, count()

    def preadv(*arguments: Any) -> int:
        if next(calls) >= failing:
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(os, "preadv", preadv)
    fails_cleanly(source, tmp_path, "cannot read model.safetensors", ExitCode.INPUT)


def test_source_that_becomes_shorter_while_it_is_read(tmp_path: Path) -> None:
    """A real read that fails: somebody downloads the shard anew meanwhile."""
    shape = PlmShape(layers=2, hidden=1024, ffn=4096, vocab=32768)
    source = write_zeros(tmp_path / "source", shape)
    out = tmp_path / "out" / "m.gguf"
    out.parent.mkdir()
    out.write_bytes(b"old")

    class Shortens:
        def begin(self, total: int) -> None:
            os.truncate(source / "model.safetensors", total // 2)

        def advance(self, count: int) -> None:
            pass

    with pytest.raises(PlmEdgeError) as error:
        convert(source, quant="q8_0", out=out, progress=Shortens())
    assert "model.safetensors" in said(error)
    assert list(out.parent.iterdir()) == [out]
    assert out.read_bytes() == b"old"


def test_disk_that_fails_while_the_source_is_hashed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, stop: object = None) -> str:
        raise PlmEdgeError(f"cannot read {path.name}", "Input/output error", "check the disk")

    monkeypatch.setattr(provenance, "file_hash", broken)
    fails_cleanly(source, tmp_path, "cannot read", ExitCode.INPUT)


def fails_cleanly(source: Path, tmp_path: Path, expected: str, code: ExitCode) -> None:
    out = tmp_path / "m.gguf"
    out.write_bytes(b"old")
    with pytest.raises(PlmEdgeError) as error:
        convert(source, quant="q8_0", out=out)
    assert expected in said(error)
    assert error.value.code == code
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == b"old"


def test_ctrl_c_on_the_command_line(tmp_path: Path) -> None:
    """The whole command, interrupted as soon as the unfinished file is there."""
    shape = PlmShape(layers=2, hidden=1024, ffn=4096, vocab=32768)
    source = write_zeros(tmp_path / "source", shape)
    out = tmp_path / "out"
    out.mkdir()
    command = "import sys; from plm_edge.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "convert", source, "--out", out / "m.gguf"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(out.iterdir()):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert list(out.iterdir()) == []


def write_zeros(folder: Path, shape: PlmShape) -> Path:
    """A checkpoint of zeros, of any size at once: its data are a hole in the file."""
    folder.mkdir()
    write_json(folder / "config.json", shape.config())
    write_tokenizer(folder, tokenizer_json(shape.vocab), special_ids(shape.vocab), 4096)
    header, end = {}, 0
    for name, size in shape.tensors().items():
        begin, end = end, end + 2 * size[0] * (size[1] if len(size) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder


def test_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    """500 MB of weights, in tensors of up to 134 MB, in well under 200 MB of memory."""
    shape = PlmShape(layers=5, hidden=2048, heads=16, ffn=8192, vocab=32768)
    source = write_zeros(tmp_path / "source", shape)
    size = (source / "model.safetensors").stat().st_size
    assert size > 450e6
    done = run(source, tmp_path / "m.gguf", "q8_0")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["peak_rss"] < 150e6


LIMITED = """
import resource, sys
from plm_edge.cli import main
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""


def limited(limit: int, source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["convert", str(source), "--out", str(out), "--threads", "2"]
    environment = os.environ | {"PLM_EDGE_DATA_DIR": str(out.parent / "data")}
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *arguments],
        env=environment | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_one_gibibyte_of_address_space_is_enough(source: Path, tmp_path: Path) -> None:
    done = limited(1 << 30, source, tmp_path / "m.gguf")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("limit", [80 << 20, 100 << 20, 150 << 20])
def test_less_memory_is_refused(source: Path, tmp_path: Path, limit: int) -> None:
    """In three lines with a number, at the latest when the plan of the file is known."""
    done = limited(limit, source, tmp_path / "m.gguf")
    assert done.returncode == ExitCode.RESOURCES, done.stderr
    assert "not enough memory for this conversion" in done.stderr
    assert "MiB" in done.stderr
    assert not (tmp_path / "m.gguf").exists()
    assert not list(tmp_path.glob(".*"))


def test_memory_is_counted_before_anything_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: (40 << 20, "this machine"))
    fails_cleanly(source, tmp_path, "this machine leaves 40 MiB", ExitCode.RESOURCES)
