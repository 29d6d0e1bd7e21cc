"""Which requests a server answers (overlay/tools/server/plm-web-guard.h), as a table."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from testkit.checkout import ROOT

HOME = "Host: 127.0.0.1:8080"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("guard") / "web_guard"
    guard = ROOT / "vendor/llama.cpp/overlay/tools/server"
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
    sources = (guard / "plm-web-guard.cpp", Path(__file__).with_name("web_guard.cpp"))
    command = [os.environ.get("CXX", "c++"), "-std=c++17", *warnings, f"-I{guard}"]
    command += [*map(str, sources), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def refusal(
    program: Path,
    *headers: str,
    origins: str = "localhost",
    bound: str = "127.0.0.1",
    version: str = "1.1",
) -> str:
    command = [str(program), origins, bound, version, *headers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:8080", "127.0.0.1:1", "127.8.9.10", "localhost", "localhost:65535",
        "LocalHost:80", "localhost.", "localhost.:8080", "[::1]", "[::1]:8080",
        "[0:0:0:0:0:0:0:1]:80", "localhost:",
    ],
)  # fmt: skip
def test_loopback_by_any_port(program: Path, host: str) -> None:
    assert refusal(program, f"Host: {host}") == ""


@pytest.mark.parametrize(
    "host",
    [
        "evil.com", "evil.com:8080", "localhost.evil.com", "127.0.0.1.evil.com", "evil-localhost",
        "notlocalhost", "localhost..", "localhost@evil.com", "evil.com@localhost", "",
        "192.168.1.5", "10.0.0.1:8080", "0.0.0.0", "[::]", "[::2]:80", "[::1", "::1", "[::1]evil",
        "[evil.com]", "localhost/evil", "localhost:80:80", "localhost:http", "localhost:123456",
        "127.0.0.1,evil.com", "localhost evil.com", "127.1", "2130706433", "0x7f000001",
        "128.0.0.1", "localhost.localdomain", ".", "[]",
    ],
)  # fmt: skip
def test_other_names_are_refused(program: Path, host: str) -> None:
    said = refusal(program, f"Host: {host}")
    assert said.startswith("this server is not called '"), said
    assert "--cors-origins" in said


def test_host_once_and_only_http_1_0_without(program: Path) -> None:
    assert "no Host" in refusal(program)
    assert refusal(program, version="1.0") == ""
    assert "several Host" in refusal(program, HOME, "Host: evil.com")
    assert "several Host" in refusal(program, HOME, HOME)
    assert "not called" in refusal(program, "Host: evil.com", version="1.0")


@pytest.mark.parametrize(
    ("origins", "bound", "host", "answered"),
    [
        ("http://pi.local:7560", "127.0.0.1", "pi.local:8080", True),
        ("https://pi.local", "127.0.0.1", "PI.local.", True),
        ("http://pi.local", "127.0.0.1", "evil.pi.local", False),
        ("http://pi.local", "127.0.0.1", "pi.local.evil.com", False),
        ("pi.local", "127.0.0.1", "pi.local", False),  # no origin: it has no scheme
        (" http://a.example , http://Pi.Local:7560", "127.0.0.1", "pi.local", True),
        ("http://a.example,", "127.0.0.1", "", False),
        ("http://pi.local", "127.0.0.1", "127.0.0.1", True),  # beside loopback, not in its place
        ("*", "127.0.0.1", "evil.com", True),
        ("null", "127.0.0.1", "null", False),
        ("localhost", "192.168.1.5", "192.168.1.5:7560", True),
        ("localhost", "192.168.1.5", "192.168.1.6:7560", False),
        ("localhost", "0.0.0.0", "192.168.1.5", False),  # all addresses, and none by name
        ("http://192.168.1.5", "0.0.0.0", "192.168.1.5", True),
        ("localhost", "fe80::A", "[fe80:0::a]:80", True),
        ("http://[fe80::a]:7560", "::", "[fe80::a]", True),
        ("localhost", "/run/plm.sock", "localhost", True),
        ("localhost", "/run/plm.sock", "run", False),
    ],
)
def test_names_that_are_given(
    program: Path, origins: str, bound: str, host: str, answered: bool
) -> None:
    said = refusal(program, f"Host: {host}", origins=origins, bound=bound)
    assert (said == "") is answered, said


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost", "https://localhost", "http://localhost:3000", "http://127.0.0.1:1",
        "https://127.0.0.1:8443", "http://[::1]", "http://[::1]:3000", "HTTP://LOCALHOST:80",
        "http://localhost.:80",
    ],
)  # fmt: skip
def test_pages_of_this_machine(program: Path, origin: str) -> None:
    assert refusal(program, HOME, f"Origin: {origin}") == ""


FOREIGN = [
    "http://evil.com", "https://evil.com", "http://localhost.evil.com", "null", "", "localhost",
    "http://127.0.0.1.evil.com", "http://evil.com:8080", "http://notlocalhost", "http://[::2]",
    "http://localhost@evil.com", "http://evil.com@localhost", "http://localhost/evil",
    "http://evil.com/localhost", "http://evil.com#localhost", "file://", "file://localhost",
    "ftp://localhost", "chrome-extension://abcdef", "http://", "http:localhost", "//localhost",
    "http://localhost http://evil.com", "http://evil.com, http://localhost", "http://0.0.0.0",
    "http://192.168.1.5:8080", "*",
]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
def test_other_pages_are_refused(program: Path, origin: str) -> None:
    said = refusal(program, HOME, f"Origin: {origin}")
    assert said.startswith("web pages of '"), said
    assert "--cors-origins" in said
    assert refusal(program, HOME, f"Origin: {origin}", origins="*") == ""


def test_one_origin(program: Path) -> None:
    ours, other = "Origin: http://localhost", "Origin: http://evil.com"
    assert "several Origin" in refusal(program, HOME, ours, other)
    assert "several Origin" in refusal(program, HOME, other, ours)


@pytest.mark.parametrize(
    ("origins", "origin", "answered"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "https://a.example:443", True),
        ("https://A.example:443", "https://a.example", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "https://b.a.example", False),
        ("https://a.example", "http://localhost:3000", False),
        ("https://a.example, localhost", "http://localhost:3000", True),
        ("localhost,app://obsidian.md", "app://obsidian.md", True),
        ("null", "null", True),
        ("", "http://localhost:3000", False),
    ],
)
def test_origins_that_are_given(program: Path, origins: str, origin: str, answered: bool) -> None:
    said = refusal(program, HOME, f"Origin: {origin}", origins=origins)
    assert (said == "") is answered, said


@pytest.mark.parametrize(
    ("host", "origin", "answered"),
    [
        ("192.168.1.5:7560", "http://192.168.1.5:7560", True),
        ("192.168.1.5", "http://192.168.1.5", True),
        ("192.168.1.5:443", "https://192.168.1.5", True),
        ("192.168.1.5:7560", "http://192.168.1.5:3000", False),  # another server of that machine
        ("192.168.1.5:7560", "http://192.168.1.5", False),
        ("192.168.1.5:7560", "http://localhost:7560", False),  # only if the list has it
        ("evil.com:7560", "http://evil.com:7560", False),  # rebound: its name is not the server's
    ],
)
def test_the_servers_own_page(program: Path, host: str, origin: str, answered: bool) -> None:
    headers = (f"Host: {host}", f"Origin: {origin}")
    assert (refusal(program, *headers, bound="192.168.1.5", origins="") == "") is answered


def test_what_a_stranger_sent_is_shown_harmlessly(program: Path) -> None:
    said = refusal(program, "Host: \x1b[31m" + "x" * 5000 + "é")
    assert said == f"this server is not called '?[31m{'x' * 95}...' (see --cors-origins)"
