"""Our folder on a device, its manifest, and what a server there says when it dies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.deploy import record, trouble
from plm_edge.deploy.place import MANIFEST, Place
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.local import LocalTransport
from plm_edge.devices.transports.transport import CommandResult
from plm_edge.model.offload import Parts
from plm_edge.model.sizes import KVShape, Sizes

MIB = 1 << 20
SIZES = Sizes("m.gguf", 900 * MIB, 4096, KVShape(True, (576,), 163840, 32), 2048, 8192, 16, 151936)

# what llama-server of the pinned version writes
NO_MEMORY = """0.00.1 I load_tensors: loading model tensors
0.00.2 E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 4294967296
0.00.3 E srv  llama_server: exiting due to model loading error"""
BAD_MODEL = """0.00.616.195 E llama_model_load: error loading model: check_tensor_dims: tensor \
'blk.0.ffn_down.weight' has wrong shape
0.00.616.400 E cmn  common_init_: failed to load model 'm.gguf'"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with LocalTransport(tmp_path) as device:
        yield Place(device, "a/b/our's")


def test_it_takes_away_what_it_put_and_nothing_else(place: Place, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/before").write_text("there before us")
    place.announce(["incoming/engine/1/bin/x", "engine/1/bin/x", "models/2/m.gguf"])
    assert (tmp_path / "a/b/our's").stat().st_mode & 0o777 == 0o700
    for name in ("incoming/engine/1/bin/x.0123456789abcdef.part", "models/2/m.gguf", MANIFEST):
        path = tmp_path / "a/b/our's" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ours")
    mine = tmp_path / "a/b/our's/models/mine.gguf"
    mine.write_text("not ours")
    lines = place.clean()
    assert [line for line in lines if line.startswith("kept ")] == [
        "kept a/b/our's/models/mine.gguf"
    ]
    assert len(lines) == 4
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "before", "mine.gguf",
    ]  # fmt: skip
    # with all of it ours, the folders that were made for it go as well, and no others
    mine.unlink()
    mine.parent.rmdir()
    mine.parent.parent.rmdir()
    (tmp_path / "a/b").rmdir()
    place.announce(["models/2/m.gguf"])
    assert place.clean() == []
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "before"]


def test_a_list_that_names_what_is_not_below(place: Place, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    place.announce(["../../../precious", str(tmp_path / "precious")])
    place.clean()
    assert (tmp_path / "precious").exists()


def test_hashes_and_room(place: Place) -> None:
    free = place.free()  # of a folder that is not there yet
    assert free is not None
    assert free > 0
    place.announce([])
    place.write("a b", "text\n")
    assert place.read("a b") == "text\n"
    assert place.read("nothing") is None
    found = place.hashes(["a b", "nothing"])
    assert found["nothing"] is None
    assert found["a b"] == "b9e68e1bea3e5b19ca6b2f98b73a54b73daafaa250484902e09982e07a12e733"


def test_hashes_where_nothing_computes_them(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place.announce([])
    place.write("x", "text")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(failures.CommandFailed, match="cannot check"):
        place.hashes(["x"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "plm-edge/deployed/9"}', "{}"])
def test_a_damaged_manifest(place: Place, text: str) -> None:
    assert record.read(place) is None
    place.announce([])
    place.write(MANIFEST, text)
    with pytest.raises(PlmEdgeError, match="cannot be read") as caught:
        record.read(place)
    assert "deploy again" in caught.value.fix


def a_record() -> record.Record:
    engine = record.DeployedEngine(
        "k", "t", "p", "aarch64", "0.1.0", [record.DeployedFile("bin/llama-server", 1, "h")], "now"
    )
    proof = record.Proof("k", "prompt", [1, 2], 0.5, "now")
    model = record.DeployedModel(
        name="m.gguf", file=record.DeployedFile("m", 2, "g"), when="now", proof=proof,
        architecture="plm", description="PLM", sizes=SIZES,
        chat_template=None, bos="", eos="",
    )  # fmt: skip
    return record.Record("pi", "rpi5", 4, engine, {"g": model})


def test_a_manifest_with_a_gpu_comes_back_as_it_was(place: Place) -> None:
    place.announce([])
    wanted = a_record()
    parts = Parts((3, 4), 5, 5, (1, 1), 12)
    wanted.models["g"] = replace(wanted.models["g"], parts=parts)
    engine = replace(wanted.engine, backend="vulkan")
    record.write(place, replace(wanted, engine=engine, gpu_layers=2))
    found = record.read(place)
    assert found is not None
    assert found.models["g"].parts == parts
    assert (found.engine.backend, found.gpu_layers) == ("vulkan", 2)


def test_a_manifest_comes_back_as_it_was(place: Place) -> None:
    place.announce([])
    wanted = a_record()
    record.write(place, wanted)
    found = record.read(place)
    assert found is not None
    assert (found.engine, found.models, found.threads) == (wanted.engine, wanted.models, 4)
    assert found.when
    assert found.sender
    text = place.read(MANIFEST)
    assert text is not None
    written = json.loads(text)
    assert written["from"] == found.sender
    assert set(written["models"]["g"]) == {
        "name", "file", "when", "architecture", "description", "sizes",
        "chat_template", "bos", "eos", "proof", "synthetic", "parts",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "log", "kind", "word"),
    [
        (1, NO_MEMORY, failures.OutOfMemory, "failed to allocate"),
        (134, "terminate called: std::bad_alloc", failures.OutOfMemory, "bad_alloc"),
        (137, "", failures.OutOfMemory, "137"),
        (132, "", failures.IllegalInstruction, "SIGILL"),
        (126, "sh: ./llama-server: Exec format error", failures.WrongArchitecture, "Exec format"),
        (1, BAD_MODEL, PlmEdgeError, "has wrong shape"),
        (0, "", failures.DeviceError, "somebody ended it"),
        (127, "sh: llama-server: not found", PlmEdgeError, "not found"),
        (1, "", PlmEdgeError, "ended with 1"),
    ],
)
def test_why_a_server_ended(
    place: Place, code: int, log: str, kind: type[PlmEdgeError], word: str
) -> None:
    error = trouble.of_server(place.transport, CommandResult("x", code, b"", b"", 1), log)
    assert isinstance(error, kind)
    if word == "137":  # the kernel's own words stand there, where its log can be read
        assert "memory" in error.what
    else:
        assert word in error.why
    assert "\n" not in error.what + error.why + error.fix


def test_a_port_here_that_is_taken(place: Place) -> None:
    log = "E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8080"
    error = trouble.of_server(place.transport, CommandResult("x", 1, b"", b"", 1), log)
    assert "port 8080 of this machine" in error.what
    assert "--port" in error.fix


@pytest.mark.parametrize(
    ("program", "says", "expected"),
    [
        ("vcgencmd", "throttled=0x50005", "under-voltage, throttled"),
        ("vcgencmd", "throttled=0x50000", ""),
        ("dumpsys", "Thermal Status: 3", "thermal status 3 (severe)"),
        ("dumpsys", "Thermal Status: 0", ""),
    ],
)
def test_throttling(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    program: str, says: str, expected: str,
) -> None:  # fmt: skip
    """Nothing here throttles on request: programs of the tests' say what the real ones would."""
    path = tmp_path / program
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert trouble.throttling_reason(place.transport).startswith(expected)
    if not expected:
        assert "thermal" not in trouble.throttling_reason(place.transport)
