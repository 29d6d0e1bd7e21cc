"""`plm-edge serve`, ps, stop and logs as a person uses them, with real servers."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pexpect
import pytest
import segno

from plm_edge.serve import network
from testkit import needs
from testkit.cli import Cli
from tests.serve.conftest import Serve, Started, runs, started, wait_until

BODY = {"prompt": "def add(a, b):", "n_predict": 4, "temperature": 0}
ANYTHING = "root ::= [^\\x00]*"


def test_it_answers_and_ends_with_sigterm(serve: Serve, cli: Cli, tiny_gguf: Path) -> None:
    server = serve("--alias", "little")
    about = server.about
    assert about["schema"] == "plm-edge/serve/1"
    assert about["url"] == f"http://127.0.0.1:{about['port']}"
    assert about["name"] == tiny_gguf.stem
    assert server.http("/health").json == {"status": "ok"}
    answer = server.http("/v1/completions", BODY | {"model": "little"})
    assert answer.status == 200
    assert answer.json["choices"][0]["text"]
    listed = json.loads(cli("ps", "--json").stdout)["servers"]
    assert [(one["port"], one["state"]) for one in listed] == [(about["port"], "idle")]
    assert listed[0]["rss_bytes"] > 1 << 20
    assert tiny_gguf.stem in cli("ps").stdout
    assert "eval time" in cli("logs", "-n", "1000").stdout

    server.process.terminate()
    assert server.process.wait(60) == 0
    assert not runs(about["pid"])
    assert json.loads(cli("ps", "--json").stdout)["servers"] == []
    assert "eval time" in cli("logs", str(about["port"])).stdout  # its log stays


def test_it_is_small_by_default(serve: Serve) -> None:
    """SERVE.md's defaults: what the server says of itself, and what it was started with."""
    server = serve("--ctx", "256")
    props = server.http("/props").json
    assert props["total_slots"] == 1
    assert props["default_generation_settings"]["n_ctx"] == 256
    words = Path(f"/proc/{server.about['pid']}/cmdline").read_bytes().decode().split("\0")
    given = dict(itertools.pairwise(words))
    ram = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < int(given["--cache-ram"]) << 20 <= ram // 20
    assert given["--sleep-idle-seconds"] == "900"
    assert given["--host"] == "127.0.0.1"
    assert "\nllamacpp:requests_processing 0\n" in server.http("/metrics").body


def test_exact(serve: Serve) -> None:
    asked = BODY | {"n_probs": 1}
    usual, exact = (
        serve("--no-prompt-cache", *more)
        .http("/completion", asked)
        .json["completion_probabilities"]
        for more in ((), ("--exact",))
    )
    assert len(usual) == len(exact) == 4
    assert [one["logprob"] for one in usual] != [one["logprob"] for one in exact]


def test_killed_parent_leaves_no_child(serve: Serve, cli: Cli) -> None:
    server = serve()
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(60)
    wait_until(lambda: not runs(server.about["pid"]))
    assert json.loads(cli("ps", "--json").stdout)["servers"] == []


def test_parent_killed_while_it_loads(cli: Cli, tiny_gguf: Path, program: Path) -> None:
    """Until it listens there is no entry: the child is found by its parent."""
    process = cli.start("serve", "--port", "0", tiny_gguf)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def servers() -> list[int]:
        found = []
        for word in children.read_text().split():
            with suppress(OSError):  # one that was only asked something has ended meanwhile
                if b"--sleep-idle-seconds" in Path(f"/proc/{word}/cmdline").read_bytes():
                    found.append(int(word))
        return found

    wait_until(lambda: process.poll() is None and servers())
    child = servers()[0]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not runs(child))


def test_a_crash_is_told_and_mended_once(serve: Serve, cli: Cli) -> None:
    server = serve("--quiet")
    port, first = server.about["port"], server.about["pid"]
    os.kill(first, signal.SIGSEGV)
    wait_until(lambda: [one for one in _ps(cli) if one["pid"] != first])
    second = _ps(cli)[0]
    assert second["port"] == port
    assert server.http("/v1/completions", BODY).status == 200

    os.kill(second["pid"], signal.SIGSEGV)
    _, said = server.process.communicate(timeout=60)
    assert server.process.returncode == 1
    lines = said.decode().splitlines()[-3:]
    assert "ended" in lines[0]
    assert "SIGSEGV" in lines[1]
    assert lines[2].startswith("  fix  ")


def test_in_the_background(cli: Cli, tiny_gguf: Path, program: Path) -> None:
    about = json.loads(cli("serve", tiny_gguf, "-d", "--port", "0", "--json").stdout)
    port = str(about["port"])
    try:
        assert runs(about["pid"])
        assert about["detached"]
        # whether its starter's session is gone does not matter to it
        assert os.getsid(about["pid"]) != os.getsid(0)
        what, why, fix = cli.fails("serve", tiny_gguf, "--port", port, code=4)
        assert what == f"port {port} is taken"
        assert f"serves {tiny_gguf.stem} there (process {about['pid']})" in why
        assert "--port 0" in fix
    finally:
        cli("stop", port)
    assert not runs(about["pid"])
    assert cli.fails("stop", port, code=3)[0] == f"no server {port} runs here"
    assert cli("ps").stdout == ""


def test_stop_wants_to_know_which(cli: Cli, tiny_gguf: Path, program: Path) -> None:
    ports = sorted(
        json.loads(cli("serve", tiny_gguf, "-d", "--port", "0", "--json").stdout)["port"]
        for _ in range(2)
    )
    try:
        assert cli.fails("stop", code=2)[0] == "which server?"
        assert cli.fails("stop", tiny_gguf.stem, code=2)[0] == "which server?"
    finally:
        stopped = json.loads(cli("stop", "--all", "--json").stdout)["stopped"]
    assert stopped == ports


def test_another_program_has_the_port(cli: Cli, tiny_gguf: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        what, why, _ = cli.fails("serve", tiny_gguf, "--port", str(port), code=4)
    assert what == f"port {port} is taken"
    assert f"(process {os.getpid()}) listens there" in why


def test_a_dead_detached_server_is_told_once(cli: Cli, tiny_gguf: Path, program: Path) -> None:
    about = json.loads(cli("serve", tiny_gguf, "-d", "--port", "0", "--json").stdout)
    os.kill(about["pid"], signal.SIGKILL)
    wait_until(lambda: not runs(about["pid"]))
    assert f"port {about['port']}" in cli("ps").stderr
    assert f"port {about['port']}" not in cli("ps").stderr


def test_the_key_is_in_no_command_line_and_no_log(serve: Serve, cli: Cli, tiny_gguf: Path) -> None:
    secret = "a-very-secret-word"
    cli.env["PLM_EDGE_API_KEY"] = secret
    server = serve("--debug")
    pid, parent = server.about["pid"], server.process.pid
    assert server.key == secret
    assert stat.S_IMODE(Path(server.about["key_file"]).stat().st_mode) == 0o600
    assert server.http("/v1/models").status == 200
    for wrong in ("", "Bearer wrong", f"Bearer {secret}x"):
        refused = server.http("/v1/models", Authorization=wrong)
        assert refused.status == 401
        assert refused.json["error"]["type"] == "authentication_error"
    for one in (pid, parent):
        assert secret.encode() not in Path(f"/proc/{one}/cmdline").read_bytes()
    assert secret.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert secret[-4:] not in server.log
    for path in Path(server.about["log_file"]).parent.iterdir():
        assert path.suffix == ".key" or secret not in path.read_text(), path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert "idle" in cli("ps").stdout  # it knows the key
    server.process.terminate()
    server.process.wait(60)
    assert not Path(server.about["key_file"]).exists()


def test_a_key_file_of_a_person(serve: Serve, cli: Cli, tmp_path: Path, tiny_gguf: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# for the phone\nfirst\nsecond\n")
    file.chmod(0o644)
    what, _, fix = cli.fails("serve", tiny_gguf, "--port", "0", "--api-key-file", file, code=3)
    assert "others on this machine may read" in what
    assert fix == f"close it: chmod 600 {file}"
    file.chmod(0o600)
    server = serve("--api-key-file", file)
    for key, status in (("first", 200), ("second", 200), ("# for the phone", 401), ("", 401)):
        assert server.http("/v1/models", Authorization=f"Bearer {key}").status == status
    server.process.terminate()
    server.process.wait(60)
    assert file.exists()


def test_foreign_pages_and_names_are_refused(serve: Serve) -> None:
    server = serve("--origin", "https://a.example")
    own = f"http://127.0.0.1:{server.about['port']}"
    for headers, status in (
        ({"Origin": "http://evil.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.com"}, 403),
        ({"Origin": own}, 200),
        ({"Origin": "https://a.example"}, 200),
        ({"Host": f"localhost:{server.about['port']}"}, 200),
    ):
        assert server.http("/v1/models", **headers).status == status, headers


def test_it_sleeps_and_wakes(serve: Serve, cli: Cli) -> None:
    server = serve("--idle", "1")
    first = server.http("/completion", BODY).json["content"]
    wait_until(lambda: _ps(cli)[0]["state"] == "asleep")
    asleep = _ps(cli)[0]["rss_bytes"]
    assert server.http("/v1/models").status == 200
    assert server.http(f"/v1/models/{server.about['name']}").status == 200
    assert _ps(cli)[0]["state"] == "asleep", "a look woke it"
    assert server.http("/completion", BODY).json["content"] == first
    assert asleep > 0


def test_it_costs_nothing_when_idle(serve: Serve) -> None:
    server = serve()
    server.http("/completion", BODY)

    def ticks(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    pids = (server.about["pid"], server.process.pid)

    def spent() -> float:
        before = sum(map(ticks, pids))
        time.sleep(5)
        return (sum(map(ticks, pids)) - before) / os.sysconf("SC_CLK_TCK")

    # 1 % of 5 s, of both together; in the first of them it may still have to do with the request
    assert any(spent() < 0.05 for _ in range(4))
    assert sorted(spent() for _ in range(3))[1] < 0.05


def test_what_does_not_fit_is_refused_first(cli: Cli, tiny_gguf: Path) -> None:
    what, _, fix = cli.fails("serve", tiny_gguf, "--ctx", "100000000", "--port", "0", code=5)
    assert "not enough memory" in what
    assert "--force" in fix


def test_why_it_does_not_start(cli: Cli, tmp_path: Path, tiny_gguf: Path, program: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_gguf.read_bytes()[:-100_000])
    what, _, _ = cli.fails("serve", broken, "--port", "0", code=3)
    assert "broken.gguf" in what


def test_without_a_network(cli: Cli, tiny_gguf: Path, program: Path) -> None:
    needs.program("unshare")
    needs.program("ip")
    script = (
        f"ip link set lo up; {' '.join(cli.command)} serve {tiny_gguf} --port 0 -d --json"
        f" && {' '.join(cli.command)} ps && {' '.join(cli.command)} stop"
    )
    wrapped = Cli(cli.env, ["unshare", "-rn", "sh", "-c", script])
    done = wrapped()
    assert "tiny-plm" in done.stdout
    assert "stopped" in done.stderr


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/", "https://a.example/page"])
def test_a_page_that_no_browser_names_so(cli: Cli, tiny_gguf: Path, origin: str) -> None:
    """It would be taken, and would never match."""
    what, _, fix = cli.fails("serve", tiny_gguf, "--origin", origin, "--port", "0", code=2)
    assert origin in what
    assert "https://a.example" in fix


@pytest.mark.parametrize("host", ["127.0.0.2,::1", "192.0.2.77", "nowhere.invalid"])
def test_an_address_that_is_not_here(cli: Cli, tiny_gguf: Path, host: str) -> None:
    what, _, _ = cli.fails("serve", tiny_gguf, "--host", host, "--port", "0", code=2)
    assert what.startswith("nothing can listen at")


def test_for_the_network_there_is_a_key(cli: Cli, tiny_gguf: Path, program: Path) -> None:
    cli.env["PLM_EDGE_HOST"] = "0.0.0.0"
    keys = []
    for _ in range(2):
        with started(cli, tiny_gguf) as server:
            keys.append(server.key)
            assert len(server.key) >= 32
            assert server.http("/v1/models", Authorization="").status == 401
            assert server.http("/v1/models").status == 200
            assert server.http("/v1/models", Host="evil.com").status == 403
            name = socket.gethostname()
            assert server.http("/v1/models", Host=name).status == 200
    assert keys[0] == keys[1]


def test_a_phone_gets_address_and_key_from_the_terminal(
    cli: Cli, tiny_gguf: Path, program: Path
) -> None:
    if not network.addresses():
        pytest.skip("needs a network interface besides loopback")
    child = pexpect.spawn(
        cli.command[0], [*cli.command[1:], "serve", str(tiny_gguf), "--lan", "--port", "0"],
        env={**cli.env, "TERM": "dumb"}, encoding="utf-8", timeout=120, dimensions=(60, 100),
    )  # fmt: skip
    child.expect("Ctrl-C stops it")
    screen = (child.before or "").replace("\r\n", "\n")
    lines = screen.splitlines()
    key = next(line for line in lines if line.startswith("key: ")).split()[1]
    address = next(line for line in lines if line.startswith("http://") and "127.0.0" not in line)
    drawn = io.StringIO()
    segno.make(f"{address}/#key={key}", error="m", micro=False).terminal(
        out=drawn, compact=True, border=2
    )
    assert drawn.getvalue() in screen
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def _ps(cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cli("ps", "--json").stdout)["servers"]
    return found


@pytest.fixture(scope="module")
def stages(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and the same with a coarse form of its output matrix. It has no rows in planes, so
    that nothing else is approximated."""
    from plm_edge.converters.convert import convert
    from plm_edge.quality.calibration import calibrate

    folder = tmp_path_factory.mktemp("stages")
    plain, model = folder / "plain.gguf", folder / "calibrated.gguf"
    convert(tiny_checkpoint, quant="q8_0", out=plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLM_EDGE_CACHE_DIR", str(folder / "cache"))
        calibrate(plain, Path(__file__).read_text(encoding="utf-8"), model)
    return plain, model


@pytest.mark.usefixtures("program")
def test_a_grammar_has_all_logits_exact_where_it_refuses_the_likeliest(
    cli: Cli, stages: tuple[Path, Path]
) -> None:
    """The text is that of exact logits, also where each token is refused first. While none is, they
    are in two stages: what is picked from a flat distribution is then what it is without a grammar,
    and not what it is of exact logits."""
    grammars = ["root ::= [0-9 ]+", "root ::= [A-Z]+", "root ::= [a-z ]+ [0-9]+", ANYTHING]
    flat = BODY | {"n_predict": 30, "temperature": 3, "top_k": 0, "top_p": 1, "min_p": 0}
    found: dict[bool, list[str]] = {}
    drawn: dict[bool, list[tuple[str, str]]] = {}
    for exact in (False, True):
        more = ["--exact"] if exact else []
        with started(cli, stages[1], "--ctx", "512", "--no-prompt-cache", *more) as server:

            def text(of: dict[str, Any], server: Started = server, **more: Any) -> str:
                asked = of | {"cache_prompt": False} | more
                return str(server.http("/completion", asked).json["content"])

            found[exact] = [text(BODY | {"n_predict": 24}, grammar=one) for one in grammars]
            drawn[exact] = [
                (text(flat, seed=seed), text(flat, seed=seed, grammar=ANYTHING))
                for seed in range(1, 6)
            ]
    assert found[True] == found[False]
    assert all(found[True])
    # a grammar is of characters, and refuses bytes that are none
    characters = [i for i in range(5) if "\ufffd" not in drawn[False][i][0] + drawn[True][i][0]]
    assert characters
    for exact in (False, True):
        assert all(drawn[exact][i][0] == drawn[exact][i][1] for i in characters)
    assert any(drawn[False][i][0] != drawn[True][i][0] for i in characters)


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("exact", [False, True])
def test_a_request_that_looks_at_all_logits_gets_them(
    cli: Cli, stages: tuple[Path, Path], exact: bool
) -> None:
    asked = BODY | {"n_predict": 3, "cache_prompt": False}
    found = []
    for one in stages:
        with started(cli, one, *(["--exact"] if exact else [])) as server:
            told = server.http("/completion", asked | {"n_probs": 300})
            found.append(
                [
                    [(top["id"], top["logprob"]) for top in token["top_logprobs"]]
                    for token in told.json["completion_probabilities"]
                ]
            )
            assert server.http("/completion", asked).json["content"] == told.json["content"]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("device", "what"),
    [
        ("nowhere", "there is no device 'nowhere'"),
        ("rpi5", "no server on rpi5 was started from here"),
        ("rpi5@pi@10.0.0.9", "no server on rpi5@pi@10.0.0.9 was started from here"),
    ],
)
def test_logs_of_a_device_without_a_server(cli: Cli, device: str, what: str) -> None:
    assert what in cli.fails("logs", "--device", device, code=3)[0]
