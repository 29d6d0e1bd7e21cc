"""The engine for this machine: programs and the libraries that Python runs.

Of the programs the two that need no more than the libraries are built here: compiling these takes
some minutes, and upstream's tools as long again.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from plm_edge.bench.worker.client import encode, greedy_request
from plm_edge.building import build, collect
from plm_edge.building.cache import KeptBuild
from plm_edge.building.request import target_for
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from testkit import ports
from testkit.checkout import ROOT
from testkit.engines import ENGINES, PROBE

COUNT = 24  # tokens
PROMPT = "def fibonacci(n):"

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("cross")]


@pytest.fixture(scope="module")
def host() -> KeptBuild:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(ENGINES))
        target = target_for("host", gpu=False)
        made, _ = build.build(target, (PROBE, "ggml-rpc-server"))
        again, cached = build.build(target, (PROBE,))
    assert cached
    assert again == made
    return made


@pytest.fixture(scope="module")
def expected(tiny_gguf: Path) -> tuple[list[int], list[int], str]:
    """A prompt, and what the engine that Python has here says after it."""
    with Session.open(tiny_gguf) as session:
        prompt = session.tokenize(PROMPT)
        request = Request(prompt, COUNT, Sampling(temp=0))
        generation = LocalGenerator(session).generate(request)
        text = generation.whole()
    assert len(generation.tokens) == COUNT
    return prompt, generation.tokens, text


def test_programs_and_libraries_stripped_and_read(host: KeptBuild) -> None:
    names = {path.name for path in host.programs.iterdir()}
    libraries = {name for name in names if name.startswith("lib")}
    assert libraries == {
        f"lib{name}.so" for name in ("ggml", "ggml-base", "ggml-cpu", "ggml-rpc", "llama")
    }
    assert names - libraries == {PROBE, "rpc-server"}
    assert collect.programs_of(host.manifest) == {PROBE, "ggml-rpc-server"}
    assert {Path(item.path).name for item in host.manifest.files} == names
    assert (host.manifest.checked, host.manifest.kernels) == ("read", "native")
    for name in names:
        with (host.programs / name).open("rb") as file:
            assert ELFFile(file).get_section_by_name(".symtab") is None, name


def test_a_program_where_it_was_never_built(
    host: KeptBuild, tiny_gguf: Path, tmp_path: Path, expected: tuple[list[int], list[int], str]
) -> None:
    """Its libraries are found beside it, not where cmake had them."""
    prompt, tokens, _ = expected
    shutil.copytree(host.programs, tmp_path / "moved")
    program = tmp_path / "moved" / PROBE
    request = greedy_request(str(tiny_gguf), prompt, COUNT)
    done = subprocess.run([program], input=encode([request]), capture_output=True)
    found = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    assert str(tmp_path / "moved" / "libllama.so") in found
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tokens"] == tokens


def test_python_runs_its_libraries(
    host: KeptBuild, tiny_gguf: Path, expected: tuple[list[int], list[int], str]
) -> None:
    command = [sys.executable, "-m", "plm_edge", "run", str(tiny_gguf), "--prompt", PROMPT]
    command += ["-n", str(COUNT), "--temp", "0", "-q"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PLM_EDGE_LIB_DIR": str(host.programs)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == expected[2].rstrip("\n")


def test_the_rpc_server_listens(host: KeptBuild, tmp_path: Path) -> None:
    port = ports.free()
    command = [str(host.programs / "rpc-server"), "-H", "127.0.0.1", "-p", str(port), "-t", "1"]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        until = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
    finally:
        server.kill()
        server.wait()
    raise AssertionError(log.read_text())
