"""What llama-server answers to a browser that a foreign web page commands, over real HTTP."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

# the engine of tests/deploy, compiled once
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("pi")]
BODY = '{"prompt": "a", "n_predict": 1}'
ACAO = "access-control-allow-origin"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: str


@dataclass(frozen=True)
class Server:
    port: int
    family: socket.AddressFamily = socket.AF_INET

    def send(self, data: str) -> str:
        """All that comes back for `data` until the server closes the connection."""
        address = "::1" if self.family is socket.AF_INET6 else "127.0.0.1"
        with socket.socket(self.family) as connection:
            connection.settimeout(60)
            connection.connect((address, self.port))
            connection.sendall(data.encode())
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def ask(
        self, method: str, path: str, *headers: str, body: str = "", version: str = "1.1"
    ) -> Answer:
        """One request with exactly these headers, and its length."""
        lines = [f"{method} {path} HTTP/{version}", *headers, f"Content-Length: {len(body)}"]
        raw = self.send("\r\n".join([*lines, "Connection: close", "", body]))
        head, _, rest = raw.partition("\r\n\r\n")
        status, *fields = head.split("\r\n")
        pairs = (field.split(": ", 1) for field in fields)
        return Answer(int(status.split()[1]), {n.lower(): v for n, v in pairs}, rest)


@contextmanager
def serving(
    program: list[str], model: Path, *arguments: str, family: socket.AddressFamily = socket.AF_INET
) -> Iterator[Server]:
    command = [
        *program, "--model", str(model), "--port", "0", "--ctx-size", "256", "--threads", "1",
        "--parallel", "1", "--no-warmup", "--cache-ram", "0", "--no-ui", "--offline", *arguments,
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            for line in process.stderr:
                if found := re.search(r"listening on http://\S+:(\d+)", line):
                    break
            else:
                pytest.fail("llama-server ended")
            Thread(target=process.stderr.read, daemon=True).start()  # its log fills no pipe
            yield Server(int(found[1]), family)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(llama_server: list[str], tiny_gguf: Path) -> Iterator[Server]:
    """As it is by default."""
    with serving(llama_server, tiny_gguf) as found:
        yield found


@pytest.fixture(scope="module")
def home(server: Server) -> str:
    return f"Host: 127.0.0.1:{server.port}"


def test_a_program_is_answered(server: Server, home: str) -> None:
    answer = server.ask("POST", "/completion", home, body=BODY)
    assert answer.status == 200
    assert '"content"' in answer.body
    assert ACAO not in answer.headers
    assert answer.headers["vary"] == "Origin"
    assert server.ask("GET", "/health", version="1.0").status == 200  # without Host


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5"])
def test_a_page_of_this_machine_may_read(server: Server, home: str, origin: str) -> None:
    answer = server.ask("POST", "/completion", home, f"Origin: {origin}", body=BODY)
    assert (answer.status, answer.headers[ACAO]) == (200, origin)
    asks = "Access-Control-Request-Method: POST"
    answer = server.ask("OPTIONS", "/v1/chat/completions", home, f"Origin: {origin}", asks)
    assert (answer.status, answer.headers[ACAO]) == (200, origin)
    assert "POST" in answer.headers["access-control-allow-methods"]


@pytest.mark.parametrize(
    "origin", ["http://evil.com", "null", "http://localhost.evil.com", "http://127.0.0.1.evil.com"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/completion"), ("OPTIONS", "/completion"), ("GET", "/health"), ("GET", "/props"),
        ("GET", "/"), ("GET", "/sw.js"), ("GET", "/nowhere"), ("DELETE", "/completion"),
    ],
)  # fmt: skip
def test_a_foreign_page_gets_nothing(
    server: Server, home: str, origin: str, method: str, path: str
) -> None:
    # a browser sends text/plain without asking first
    kind = "Content-Type: text/plain"
    answer = server.ask(method, path, home, f"Origin: {origin}", kind, body=BODY)
    assert answer.status == 403
    assert ACAO not in answer.headers
    assert "content" not in answer.body
    if method == "POST":
        assert '"type":"permission_error"' in answer.body
        assert '"code":403' in answer.body


@pytest.mark.parametrize("host", ["evil.com", "evil.com:8080", "localhost.evil.com", "192.0.2.1"])
def test_a_rebound_name_gets_nothing(server: Server, host: str) -> None:
    """The page http://evil.com, whose name resolves to 127.0.0.1 by now, asks its own server."""
    for origin in ([], [f"Origin: http://{host}"], ["Origin: http://localhost"]):
        for method, path in (("POST", "/completion"), ("GET", "/health"), ("OPTIONS", "/")):
            answer = server.ask(method, path, f"Host: {host}", *origin, body=BODY)
            assert answer.status == 403, (method, path, origin)
            assert ACAO not in answer.headers


def test_headers_twice_or_missing(server: Server, home: str) -> None:
    ours, foreign = "Origin: http://localhost", "Origin: http://evil.com"
    for headers in (
        (home, "Host: evil.com"), ("Host: evil.com", home), (), (home, ours, foreign),
        (home, foreign, ours), (home, "ORIGIN: http://evil.com"), ("hOST: evil.com",),
    ):  # fmt: skip
        assert server.ask("GET", "/health", *headers).status == 403, headers
    assert server.ask("GET", "/health", home.lower(), ours.upper()).status == 200


def test_other_ports_are_the_same_server(server: Server) -> None:
    """Behind ssh's or adb's forwarded port the browser sees another one."""
    other = server.ask("GET", "/health", "Host: localhost:1", "Origin: http://localhost:1")
    assert (other.status, other.headers[ACAO]) == (200, "http://localhost:1")


def test_a_request_within_a_refused_body_is_no_request(server: Server, home: str) -> None:
    inner = f"GET /health HTTP/1.1\r\n{home}\r\n\r\n"
    head = f"POST /completion HTTP/1.1\r\n{home}\r\nOrigin: http://evil.com\r\n"
    raw = server.send(f"{head}Content-Length: {len(inner)}\r\n\r\n{inner}")
    assert re.findall(r"HTTP/1.1 (\d+)", raw) == ["403"]


def test_ipv6(llama_server: list[str], tiny_gguf: Path) -> None:
    six = socket.AF_INET6
    with serving(llama_server, tiny_gguf, "--host", "::1", family=six) as found:
        host = f"Host: [::1]:{found.port}"
        page = found.ask("GET", "/health", host, f"Origin: http://[::1]:{found.port}")
        assert page.status == 200
        assert found.ask("GET", "/health", host, "Origin: http://[2001:db8::1]").status == 403
        assert found.ask("GET", "/health", "Host: [2001:db8::1]").status == 403


def test_names_and_origins_that_are_given(llama_server: list[str], tiny_gguf: Path) -> None:
    """As for a phone in the same network: all addresses, one name, a key, one foreign page."""
    arguments = (
        "--host", "0.0.0.0", "--api-key", "secret",
        "--cors-origins", "http://pi.local:7560,https://a.example",
    )  # fmt: skip
    with serving(llama_server, tiny_gguf, *arguments) as found:
        key, host = "Authorization: Bearer secret", f"Host: pi.local:{found.port}"
        own, listed = f"Origin: http://pi.local:{found.port}", "Origin: https://a.example"
        for origin in (own, listed):
            answer = found.ask("POST", "/completion", host, origin, key, body=BODY)
            assert (answer.status, answer.headers[ACAO]) == (200, origin.split(": ")[1])
            assert found.ask("POST", "/completion", host, origin, body=BODY).status == 401
        for origin in ("Origin: http://localhost", "Origin: http://pi.local:1"):
            assert found.ask("POST", "/completion", host, origin, key, body=BODY).status == 403
        assert found.ask("GET", "/health", "Host: 192.0.2.1").status == 403
        assert found.ask("GET", "/health", "Host: localhost").status == 200


def test_all_pages_where_it_is_asked_for(llama_server: list[str], tiny_gguf: Path) -> None:
    with serving(llama_server, tiny_gguf, "--cors-origins", "*") as found:
        answer = found.ask("GET", "/health", "Host: evil.com", "Origin: http://evil.com")
        assert (answer.status, answer.headers[ACAO]) == (200, "http://evil.com")
