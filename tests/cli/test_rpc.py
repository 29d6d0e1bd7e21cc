"""Layers on other machines: real RPC servers on loopback, started as a person does."""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import testkit.rpc
from plm_edge import Model
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import accelerators, library, rpc
from plm_edge.engine.greedy import greedy
from plm_edge.engine.log import engine_log
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from testkit import ports
from testkit.checkout import ROOT
from testkit.cli import Cli
from testkit.rpc import Server, endpoints
from tests.cli.test_signals import ENDLESS
from tests.parity import fake_gpu
from tests.parity.fake_gpu import Lacks

PROMPT = "def add(a, b):\n"
OF_CUDA = Lacks.K_QUANT_CASTS | Lacks.EXPANDED


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    with testkit.rpc.two() as found:
        yield found


def text_of(cli: Cli, model: Path, *more: str) -> str:
    return cli("run", model, "--prompt", PROMPT, "--temp", "0", "-n", "24", *more).stdout


@pytest.mark.parametrize("layers", ["all", "4"])
def test_two_servers_give_the_same_text(
    cli: Cli, tiny_gguf: Path, servers: list[Server], layers: str
) -> None:
    alone = text_of(cli, tiny_gguf)
    assert text_of(cli, tiny_gguf, "--rpc", endpoints(servers), "--gpu", layers) == alone
    # the servers serve the next one
    assert text_of(cli, tiny_gguf, "--rpc", endpoints(servers)) == alone


@pytest.mark.parametrize("lacks", [Lacks.NOTHING, OF_CUDA, OF_CUDA | Lacks.SPARSE_T])
def test_a_servers_device_says_what_it_computes(tiny_gguf: Path, lacks: Lacks) -> None:
    """A GPU behind a server, that refuses what it lacks and would end both programs over it: all
    layers run there, as they would on a GPU here."""
    with Session.open(tiny_gguf, Options(n_ctx=512, threads=1, gpu_layers=0)) as session:
        prompt = session.tokenize(PROMPT * 20)  # enough for the expanded form
        expected = [step.token for step in greedy(session, prompt, 8)]
    with testkit.rpc.of_gpu(fake_gpu.preloaded(lacks)) as server:
        about = rpc.ask(server.endpoint, library.read_pin().tree)
        assert about.sparse == (Lacks.SPARSE_T not in lacks)
        options = Options(n_ctx=512, threads=1, rpc=(server.endpoint,), gpu_layers=accelerators.ALL)
        with Session.open(tiny_gguf, options) as session:
            assert engine_log.splits() == (2, 2)  # the embedding's lookup, and the rest
            assert bool(session.copies) == (Lacks.SPARSE_T in lacks)
            assert [step.token for step in greedy(session, prompt, 8)] == expected


def test_from_python(tiny_gguf: Path, servers: list[Server]) -> None:
    with Model.load(tiny_gguf, threads=1) as model:
        alone = model.generate(PROMPT, n_predict=24, temp=0).text
        assert model.notes == []
    with Model.load(tiny_gguf, rpc=[server.endpoint for server in servers]) as model:
        assert model.generate(PROMPT, n_predict=24, temp=0).text == alone
        assert servers[0].endpoint in model.notes[0]


def test_the_sparse_product_runs_there(tiny_gguf: Path, servers: list[Server]) -> None:
    """A server of this tree has the op, so that nothing is turned over for each token."""
    tree = library.read_pin().tree
    about = [rpc.ask(server.endpoint, tree) for server in servers]
    assert all(
        server.sparse and len(server.free) == 1 and server.free[0] > 1 << 20 for server in about
    )


def test_a_server_of_another_tree(servers: list[Server]) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        rpc.ask(servers[0].endpoint, "0" * 64)
    assert caught.value.code is ExitCode.DEVICE
    assert "another version" in caught.value.what
    assert "000000000000" in caught.value.why


def test_nobody_there(cli: Cli, tiny_gguf: Path) -> None:
    there = f"127.0.0.1:{ports.free()}"
    what, why, fix = cli.fails(
        "run", tiny_gguf, "--prompt", "x", "--rpc", there, code=ExitCode.DEVICE
    )
    assert f"{there} cannot be reached" in what
    assert "refused" in why
    assert "plm-edge rpc" in fix


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "no RPC server"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no RPC server"),
        (b"\x1c" + bytes(7) + b"\x07\0\x01\0" + bytes(24), "another version"),  # stock llama.cpp
        (b"\x1c" + bytes(7) + b"\x06\0\x00P" + bytes(24), "another version"),  # an older protocol
    ],
)
def test_something_else_listens(answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def one() -> None:
            stream, _ = listener.accept()
            with stream:
                stream.recv(1024)
                stream.sendall(answer)

        thread = threading.Thread(target=one)
        thread.start()
        with pytest.raises(PlmEdgeError) as caught:
            rpc.ask(f"127.0.0.1:{listener.getsockname()[1]}", "t")
        thread.join()
    assert caught.value.code is ExitCode.DEVICE
    assert words in f"{caught.value.what} {caught.value.why}"


def test_a_busy_server(monkeypatch: pytest.MonkeyPatch, servers: list[Server]) -> None:
    monkeypatch.setattr(rpc, "_PATIENCE", 0.3)
    with (
        socket.create_connection(("127.0.0.1", servers[0].port)),
        pytest.raises(PlmEdgeError) as caught,
    ):
        rpc.ask(servers[0].endpoint, "t")
    assert "does not answer" in caught.value.what
    assert "busy" in caught.value.why


def test_a_server_that_goes_away(cli: Cli, models: Path, servers: list[Server]) -> None:
    """Killed while it computes: three lines, and no abort. The model's text has no end."""
    process = cli.start(
        "run", models / "abc.gguf", "--prompt", PROMPT, *ENDLESS, "--rpc", endpoints(servers)
    )
    assert process.stdout is not None
    assert process.stdout.read(1)
    servers[1].process.kill()
    text = process.communicate(timeout=60)[1].decode()
    assert process.returncode == ExitCode.DEVICE
    assert "the connection to an RPC server was lost\n  why  " in text
    assert "Traceback" not in text


def test_ctrl_c_ends_a_server(servers: list[Server]) -> None:
    servers[0].process.send_signal(signal.SIGINT)
    assert servers[0].process.wait(60) in (-signal.SIGINT, ExitCode.INTERRUPTED)


def test_a_taken_port(cli: Cli, servers: list[Server]) -> None:
    port = str(servers[0].port)
    assert "cannot listen" in cli.fails("rpc", "--port", port, code=ExitCode.ENVIRONMENT)[0]


def test_endpoints() -> None:
    assert rpc.parse(None) == ()
    assert rpc.parse("a, b:1") == (f"a:{rpc.PORT}", "b:1")
    for wrong in ("", "a:", ":1", "a:0", "a:65536", "a:b", "a,,b"):
        with pytest.raises(PlmEdgeError) as caught:
            rpc.parse(wrong)
        assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize("address", ["::1", "[::1]", "[::1]:7561", "fe80::1,10.0.0.2"])
def test_ipv6_is_refused_in_words(address: str) -> None:
    with pytest.raises(PlmEdgeError, match="cannot be used for RPC") as caught:
        rpc.parse(address)
    assert "IPv4 alone" in caught.value.why
    assert "ssh -L" in caught.value.fix


def test_names_are_resolved(monkeypatch: pytest.MonkeyPatch, servers: list[Server]) -> None:
    tree = library.read_pin().tree
    assert rpc.ask(f"localhost:{servers[0].port}", tree).tree == tree
    assert rpc.address_of("localhost", ports.free()) == "127.0.0.1"

    def only_six(host: str, port: object, family: int = 0, *_more: object) -> list[object]:
        if family == socket.AF_INET:
            raise socket.gaierror(socket.EAI_NONAME, "nothing")
        return [(socket.AF_INET6, 0, 0, "", ("::1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", only_six)
    with pytest.raises(PlmEdgeError, match="cannot be used for RPC"):
        rpc.address_of("six", 7561)


def test_the_protocol_is_the_trees() -> None:
    """What Python speaks, against the header and the enum that the engine was built from."""
    tree = ROOT / "vendor/llama.cpp/.tree/ggml"
    header = (tree / "include/ggml-rpc.h").read_text()
    assert f"RPC_PROTO_MAJOR_VERSION    {rpc.VERSION}\n" in header
    source = (tree / "src/ggml-rpc/ggml-rpc.cpp").read_text()
    body = source[source.index("enum rpc_cmd {") :].partition("}")[0]
    names = re.findall(r"RPC_CMD_(\w+)", body)
    assert names.index("HELLO") == rpc._HELLO
    assert names.index("DEVICE_COUNT") == rpc._DEVICE_COUNT
    assert names.index("GET_DEVICE_MEMORY") == rpc._MEMORY
    assert names.index("PLM_ABOUT") == rpc._ABOUT


def test_layers_by_memory() -> None:
    assert accelerators.layers_for(32, 8, [8, 16]) == 24
    assert accelerators.layers_for(32, 1 << 40, [1, 1]) == 2  # at least one each
    assert accelerators.layers_for(1, 8, [8, 8]) == 1
    assert accelerators.share_here(32, 24) == 0.25
    assert accelerators.share_here(32, 99) == 0.0
