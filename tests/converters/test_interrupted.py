"""Interrupted conversions, by real signals to a process of their own, and its memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.checkpoints import (
    PlmShape,
    special_ids,
    tokenizer_json,
    write_checkpoint,
    write_json,
    write_tokenizer,
)
from tests.converters.conftest import SHAPE_256

# Sends itself a signal after the first block: in the middle, whatever the speed of the machine.
PROGRAM = """
import json, os, sys
from pathlib import Path
from converters.convert import convert

class Progress:
    def begin(self, total): pass
    def advance(self, count):
        if int(sys.argv[4]):
            os.kill(os.getpid(), int(sys.argv[4]))

report = convert(Path(sys.argv[1]), out=Path(sys.argv[2]), quant=sys.argv[3], progress=Progress())
print(json.dumps({"peak_rss": report.peak_rss, "seconds": report.seconds}))
"""


def run(source: Path, out: Path, quant: str, send: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, source, out, quant, str(send)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("interrupted") / "checkpoint", SHAPE_256)


@pytest.mark.parametrize("old", [b"old", None])
def test_ctrl_c_leaves_the_old_file_or_none(source: Path, tmp_path: Path, old: bytes) -> None:
    out = tmp_path / "m.gguf"
    if old:
        out.write_bytes(old)
    done = run(source, out, "q4_k", signal.SIGINT)
    assert "KeyboardInterrupt" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == (
        {"m.gguf": old} if old else {}
    )


def test_kill_leaves_the_old_file_and_the_next_run_tidies_up(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"
    out.write_bytes(b"old")
    done = run(source, out, "q4_k", signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL
    assert out.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"m.gguf", ".m.gguf.partial"}
    assert run(source, out, "q4_k").returncode == 0
    assert out.read_bytes()[:4] == b"GGUF"
    assert list(tmp_path.iterdir()) == [out]


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
