"""A packed folder runs where there is no Python: the start script by a real shell, then a real
server of it, here and under qemu."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import urllib.request
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.files import sha256
from plm_edge.building.cache import KeptBuild
from plm_edge.building.manifest import BuiltFile
from plm_edge.building.target import machine
from plm_edge.deploy.pack.pack import pack
from plm_edge.devices.profiles.profile import find
from plm_edge.devices.transports.qemu import QemuTransport
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.model import fit, gguf_file
from testkit import engines, manifests, needs, plm_gguf, ports
from testkit.checkout import Upstream
from tests.deploy.conftest import SURE

# what a small Linux and Termux have; no Python among them
PROGRAMS = (
    "cat", "chmod", "dirname", "hostname", "nproc", "od", "sed", "sh", "sha256sum", "tr",
)  # fmt: skip
LENGTH = 6  # tokens
FAKE = '#!/bin/sh\necho "key=$LLAMA_API_KEY"\nprintf "%s\\n" "$@"\n'


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which there is no Python."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in PROGRAMS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return str(folder)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return plm_gguf.write(tmp_path / "a model's $(name).gguf")


@pytest.fixture
def packed(tmp_path: Path, model: Path) -> Path:
    """A folder whose server is a script that prints what it is called with."""
    return pack(fake(tmp_path / "engine"), model, tmp_path / "my pack").path


def fake(folder: Path) -> KeptBuild:
    program = folder / "bin/llama-server"
    program.parent.mkdir(parents=True)
    program.write_text(FAKE)
    program.chmod(0o755)
    (folder / "licences").mkdir()
    (folder / "licences/LICENSE.llama.cpp").write_text("Permission is hereby granted\n")
    size = program.stat().st_size
    file = BuiltFile("bin/llama-server", size, sha256(program), {}, {})
    return KeptBuild(folder, manifests.manifest(arch=machine(), files=(file,)))


def start(
    folder: Path, path: str, *options: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["sh", str(folder / "start.sh"), *options],
        env={"PATH": path}, capture_output=True, text=True, timeout=60, cwd="/",
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def value(done: subprocess.CompletedProcess[str], name: str) -> str:
    lines = done.stdout.splitlines()
    return lines[lines.index(name) + 1]


class TestFolder:
    def test_it_is_whole(self, packed: Path, model: Path, path: str) -> None:
        found = {str(item.relative_to(packed)) for item in packed.rglob("*") if item.is_file()}
        assert found >= {
            "start.sh", "README.txt", "about", "SHA256SUMS", "bin/llama-server",
            "licences/LICENSE.llama.cpp", "model/a-model-s---name-.gguf",
        }  # fmt: skip
        assert (packed / "model/a-model-s---name-.gguf").read_bytes() == model.read_bytes()
        assert "sh start.sh" in (packed / "README.txt").read_text()
        start(packed, path, "--verify")
        listed = (packed / "SHA256SUMS").read_text().splitlines()
        assert {line.split("  ", 1)[1] for line in listed} == found - {"SHA256SUMS"}

    def test_a_damaged_file_is_found(self, packed: Path, path: str) -> None:
        with (packed / "model/a-model-s---name-.gguf").open("r+b") as file:
            file.write(b"x")
        assert "damaged" in start(packed, path, "--verify", code=3).stderr

    def test_a_damaged_engine_is_not_packed(self, tmp_path: Path, model: Path) -> None:
        engine = fake(tmp_path / "engine")
        (engine.folder / "bin/llama-server").write_text("else")
        with pytest.raises(PlmEdgeError, match="damaged"):
            pack(engine, model, tmp_path / "out")
        assert {item.name for item in tmp_path.iterdir()} == {"engine", model.name}

    def test_nothing_is_replaced(self, tmp_path: Path, packed: Path, model: Path) -> None:
        with pytest.raises(PlmEdgeError, match="there already"):
            pack(fake(tmp_path / "again"), model, packed)

    def test_as_one_file(self, tmp_path: Path, model: Path, path: str) -> None:
        made = pack(fake(tmp_path / "engine"), model, tmp_path / "p.tar")
        with tarfile.open(made.path) as archive:
            archive.extractall(tmp_path / "x", filter="data")
        start(tmp_path / "x/p", path, "--verify")
        again = pack(fake(tmp_path / "again"), model, tmp_path / "q.tar")
        assert again.checksums.keys() == made.checksums.keys()


class TestScript:
    def test_by_default(self, packed: Path, path: str) -> None:
        done = start(packed, path)
        assert value(done, "--host") == "127.0.0.1"
        assert value(done, "--port") == "7560"
        assert value(done, "--ctx-size") == "2048"
        assert value(done, "--cache-type-k") == "f16"
        assert value(done, "--cors-origins") == "localhost"
        assert done.stdout.startswith("key=\n")
        assert not (packed / "key").exists()

    def test_for_the_network_there_is_a_key(self, packed: Path, path: str) -> None:
        folder = Path(path)
        (folder / "hostname").unlink(missing_ok=True)
        (folder / "hostname").write_text("#!/bin/sh\necho 192.0.2.7 2001:db8::1\n")
        (folder / "hostname").chmod(0o755)
        done = start(packed, path, "--lan")
        key = (packed / "key").read_text()
        assert re.fullmatch("[0-9a-f]{48}", key)
        assert (packed / "key").stat().st_mode & 0o777 == 0o600
        assert done.stdout.startswith(f"key={key}\n")
        assert key not in done.stdout.partition("\n")[2]  # never an argument
        assert value(done, "--host") == "127.0.0.1,192.0.2.7"
        assert "http://192.0.2.7:7560" in done.stderr
        start(packed, path, "--lan")
        assert (packed / "key").read_text() == key

    def test_the_rule_is_the_programs(self, packed: Path, model: Path) -> None:
        rows = re.findall(r"^(\d+) (\w+) (\d+)$", (packed / "about").read_text(), re.MULTILINE)
        assert [(int(ctx), kv) for ctx, kv, _ in rows] == [*fit.offers(gguf_file.read(model))]

    def test_short_memory(self, packed: Path, path: str) -> None:
        """As if each context took as many GiB as this machine has, but the last one."""
        about = packed / "about"
        text = re.sub(r"^(\d+ \w+) \d+$", r"\1 99999999", about.read_text(), flags=re.MULTILINE)
        about.write_text(text.replace("512 q4_0 99999999", "512 q4_0 1"))
        done = start(packed, path)
        assert (value(done, "--ctx-size"), value(done, "--cache-type-v")) == ("512", "q4_0")
        assert "memory is short" in done.stderr
        about.write_text(text)
        error = start(packed, path, code=5).stderr
        assert "not enough memory" in error
        assert "--force" in error
        assert value(start(packed, path, "--force"), "--ctx-size") == "2048"

    @pytest.mark.parametrize(
        "options", [("--port",), ("--port", "x"), ("--ctx", "0"), ("--kv", "q9"), ("--what",)]
    )
    def test_wrong_options(self, packed: Path, path: str, options: tuple[str, ...]) -> None:
        error = start(packed, path, *options, code=2).stderr
        assert re.search(r"\n  why  .+\n  fix  .+\n$", error)

    def test_help(self, packed: Path, path: str) -> None:
        assert "--lan" in start(packed, path, "--help").stdout

    def test_a_taken_port(self, packed: Path, path: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
            assert f"port {port} is taken" in start(packed, path, "--port", port, code=4).stderr


def answer(folder: Path, path: str) -> str:
    """Start the folder's server, ask it to go on with SURE, and stop it by Ctrl-C."""
    port = ports.free()
    log = folder.parent / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["sh", str(folder / "start.sh"), "--port", str(port), "--threads", "1"],
            env={"PATH": path}, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=10):
                    break
            except OSError:
                time.sleep(0.2)
        body = {"prompt": SURE, "n_predict": LENGTH, "temperature": 0}
        request = urllib.request.Request(f"{url}/completion", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=180) as response:
            text: str = json.load(response)["content"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        return text
    finally:
        process.kill()
        process.wait(60)


def said(model: Path) -> str:
    """The same greedy text, of this process."""
    with Session.open(model, Options(n_ctx=512, threads=1)) as session:
        generator = LocalGenerator(session)
        prompt = generator.encode(SURE, raw=True)
        greedy = Request(prompt.tokens, LENGTH, Sampling(temp=0))
        return generator.generate(greedy).whole()


def test_the_server_of_this_machine(
    upstream: Upstream, tmp_path: Path, tiny_gguf: Path, path: str
) -> None:
    """llama-server as the tests built it, with its libraries beside it."""
    if not (upstream.bin / "llama-server").is_file():
        pytest.skip("needs llama-server in build/engine/bin")
    engine, found = tmp_path / "engine", []
    (engine / "bin").mkdir(parents=True)
    for origin in [upstream.bin / "llama-server", *sorted(upstream.bin.glob("lib*.so*"))]:
        target = engine / "bin" / origin.name
        shutil.copyfile(origin, target)
        found.append(BuiltFile(f"bin/{origin.name}", target.stat().st_size, sha256(target), {}, {}))
    built = KeptBuild(engine, manifests.manifest(arch=machine(), files=tuple(found)))
    made = pack(built, tiny_gguf, tmp_path / "here")
    assert made.started
    assert answer(made.path, path) == said(tiny_gguf)


@pytest.mark.full
@pytest.mark.xdist_group("cross")
def test_the_server_of_a_pi(tmp_path: Path, tiny_gguf: Path, path: str) -> None:
    """The folder as it goes to a Raspberry Pi 5; only what the kernel there would start is here
    started by qemu."""
    needs.program("qemu-aarch64")
    made = pack(engines.engine("rpi5"), tiny_gguf, tmp_path / "pi")
    assert made.started is None
    program = made.path / "bin/llama-server"
    arm = program.rename(made.path / "bin/arm")
    command = QemuTransport(find("rpi5"), tmp_path / "home").program([str(arm)])
    program.write_text(f'#!{shutil.which("sh")}\nexec {" ".join(command)} "$@"\n')
    program.chmod(0o755)
    assert answer(made.path, path) == said(tiny_gguf)


def test_too_little_room(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(PlmEdgeError) as caught:
        pack(fake(tmp_path / "engine"), model, tmp_path / "out")
    assert caught.value.code is ExitCode.RESOURCES
    assert {item.name for item in tmp_path.iterdir()} == {"engine", model.name}


def test_a_place_that_cannot_be_written(tmp_path: Path, model: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PlmEdgeError, match="cannot be written") as caught:
        pack(fake(tmp_path / "engine"), model, tmp_path / "file/out")
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "file" in caught.value.why
    assert "--out" in caught.value.fix


def test_the_place_is_looked_at_before_an_engine_is_built(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from plm_edge import cli

    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    monkeypatch.setattr("plm_edge.cli.deploy.engine_of", lambda *_: pytest.fail("it was built"))
    command = ["pack", str(model), "--device", "rpi5", "--out"]
    assert cli.main([*command, str(tmp_path / "full")]) == ExitCode.INPUT
    assert "is there already" in capsys.readouterr().err
    assert cli.main([*command, str(tmp_path / "full/mine/out")]) == ExitCode.ENVIRONMENT
    assert "is no folder" in capsys.readouterr().err


def test_a_disk_that_becomes_full(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/model")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(PlmEdgeError, match="cannot be written") as caught:
        pack(fake(tmp_path / "engine"), model, tmp_path / "out")
    assert caught.value.code is ExitCode.RESOURCES
    assert {item.name for item in tmp_path.iterdir()} == {"engine", model.name}
