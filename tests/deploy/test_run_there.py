"""A model on a Pi: run from here, served from there, and everything that can break meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from testkit.cli import finish
from tests.deploy.conftest import SURE, Pi
from tests.serve.conftest import wait_until

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("pi")]
LONG = ("-p", SURE, "-n", "2000", "--temp", "0")


def keys(data: object) -> object:
    """The shape of a JSON value."""
    if isinstance(data, dict):
        return {name: keys(value) for name, value in data.items()}
    return None


def begun(pi: Pi, *arguments: str) -> subprocess.Popen[bytes]:
    """A run that has written something."""
    started = pi.cli.start("run", "--device", "pi", *arguments)
    assert started.stdout
    assert started.stdout.read(1)
    return started


def ended(started: subprocess.Popen[bytes]) -> tuple[int, list[str]]:
    """Its exit code and its last three lines on stderr."""
    _, err = started.communicate(timeout=120)
    return started.returncode, err.decode().splitlines()[-3:]


def test_json_is_as_here(ready: Pi, tiny_gguf: Path) -> None:
    asked = ("-p", SURE, "-n", "10", "--temp", "0", "--threads", "1", "--json")
    here = json.loads(ready.cli("run", tiny_gguf, *asked).stdout)
    there = json.loads(ready.cli("run", "--device", "pi", *asked).stdout)
    device = there.pop("device")
    assert (device["name"], device["profile"], device["throttled"]) == ("pi", "rpi5", "")
    assert keys(here) == keys(there)
    assert there["memory"]["bound_by"] == "pi"
    same = ("text", "tokens", "prompt_tokens", "stop_reason", "templated", "schema")
    assert {name: here[name] for name in same} == {name: there[name] for name in same}
    assert len(there["tokens"]) == 10
    counts = ("n_prompt", "n_generated", "kv_type", "kv_bytes_per_token", "kv_bytes_allocated",
              "kv_bytes_used", "n_ctx", "threads")  # fmt: skip
    mine, its = here["stats"], there["stats"]
    assert {name: mine[name] for name in counts} == {name: its[name] for name in counts}
    for name in ("load_s", "ttft_s", "prefill_s", "prefill_tps", "decode_s", "decode_tps"):
        assert its[name] > 0, name
    assert its["peak_rss_bytes"] > 2**20
    # rows that are zero here are so there, but for rounding
    assert its["zeros_by_layer"] == pytest.approx(mine["zeros_by_layer"], abs=0.02)
    assert min(its["zeros_by_layer"]) > 0
    assert ready.ends()


def test_a_chat_there_says_what_it_says_here(ready: Pi, tiny_gguf: Path) -> None:
    asked = ("-n", "8", "--temp", "0", "--threads", "1", "--no-save")
    here = ready.cli("chat", tiny_gguf, *asked, stdin=SURE.encode())
    there = ready.cli("chat", "--device", "pi", *asked, stdin=SURE.encode())
    assert here.stdout == there.stdout != ""
    assert "no chat template" in there.stderr
    assert ready.ends()


def test_grammar_log_probabilities_and_stop_strings_are_as_here(ready: Pi, tiny_gguf: Path) -> None:
    schema = '{"type": "object", "properties": {"n": {"type": "number", "maximum": 2}}}'
    base = ("-p", SURE, "-n", "12", "--temp", "0", "--threads", "1", "--json", "--logprobs", "2")
    for form in (("--schema", schema), ("--grammar", "root ::= [a-z ]{3}"), ("--stop", "a")):
        asked = (*base, *form)
        here = json.loads(ready.cli("run", tiny_gguf, *asked, code=None).stdout)
        there = json.loads(ready.cli("run", "--device", "pi", *asked, code=None).stdout)
        for name in ("text", "tokens", "stop_reason", "valid"):
            assert here.get(name) == there.get(name), name
        assert [one["token"] for one in there["logprobs"]] == there["tokens"]
        for mine, its in zip(here["logprobs"], there["logprobs"], strict=True):
            # a grammar forces tokens that are next to impossible: rounding moves these by more
            assert its["logprob"] == pytest.approx(mine["logprob"], abs=0.1, rel=0.05)
            first, last = mine["top"][0], mine["top"][-1]
            if first["logprob"] > last["logprob"] + 0.2:
                assert its["top"][0]["token"] == first["token"]


def test_exact(ready: Pi) -> None:
    asked = ("-p", SURE, "-n", "6", "--temp", "0", "--threads", "1", "--json", "--logprobs", "1")
    usual, exact = (
        json.loads(ready.cli("run", "--device", "pi", *asked, *more).stdout)["logprobs"]
        for more in ((), ("--exact",))
    )
    assert len(usual) == len(exact) == 6
    assert usual != exact


def test_streamed_with_stats(ready: Pi) -> None:
    done = ready.cli("run", "--device", "pi", "-p", SURE, "-n", "3", "--temp", "0", "--stats")
    assert done.stdout.strip()
    for word in (
        "load",
        "TTFT",
        "prefill",
        "decode",
        "KV cache",
        "peak RSS",
        "zero rows",
        "threads: 1",
    ):
        assert word in done.stderr, word


def test_sampled_with_a_seed(ready: Pi) -> None:
    asked = ("run", "--device", "pi", "-p", SURE, "-n", "8", "--temp", "1.5", "-q", "--seed")
    first, again, other = (ready.cli(*asked, seed).stdout for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_limits_are_those_of_here(ready: Pi, tiny_gguf: Path) -> None:
    for where in ([str(tiny_gguf)], ["--device", "pi"]):
        what, _, _ = ready.cli.fails("run", *where, "-p", "one two " * 300, "--ctx", "256", code=3)
        assert what == "the prompt does not fit the context"
        ready.cli.fails("run", *where, "-p", "x", "--temp", "-1", code=2)
    asked = ("-p", SURE, "-n", "-1", "--ctx", "40", "--temp", "0")
    here, there = (
        ready.cli("run", *where, *asked) for where in ([str(tiny_gguf)], ["--device", "pi"])
    )
    assert "the context of 40 tokens is full" in there.stderr
    assert here.stdout == there.stdout


def test_a_model_that_was_not_deployed(ready: Pi, tmp_path: Path, tiny_gguf: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny_gguf.read_bytes() + b"x")
    what, why, fix = ready.cli.fails("run", other, "--device", "pi", "-p", "x", code=3)
    assert "other.gguf is not on pi" in what
    assert tiny_gguf.name in why
    assert "deploy" in fix


def test_memory_that_is_not_there(ready: Pi) -> None:
    what, why, fix = ready.cli.fails(
        "run", "--device", "pi", "-p", "x", "--ctx", "2000000000", code=5
    )
    assert "not enough memory" in what
    assert "MiB are available to pi" in why
    assert "--ctx" in fix


def test_the_connection_breaks(ready: Pi) -> None:
    started = begun(ready, *LONG)
    ready.server.cut()
    code, lines = ended(started)
    assert code == 6
    assert "the connection to pi was lost" in lines[0]
    assert ready.ends(), "the server there outlived its connection"


def test_the_kernel_kills_it(ready: Pi) -> None:
    started = begun(ready, *LONG)
    for process in ready.programs():
        process.kill()  # as the kernel does when memory ends
    code, lines = ended(started)
    assert code == 5
    assert "pi ran out of memory" in lines[0]


def test_ctrl_c(ready: Pi) -> None:
    started = begun(ready, *LONG, "--stats")
    started.send_signal(signal.SIGINT)
    code, lines = ended(started)
    assert code == 130
    assert "zero rows" in "".join(lines)
    assert ready.ends()


def test_ctrl_c_with_json(ready: Pi, tiny_gguf: Path) -> None:
    started = ready.cli.start("run", "--device", "pi", *LONG, "--json")
    while not ready.programs():
        time.sleep(0.2)
    used = 0.0
    while used < 2:  # seconds of its CPU: by then it generates
        time.sleep(0.2)
        used = sum(process.cpu_times().user for process in ready.programs())
    started.send_signal(signal.SIGINT)
    out, _ = started.communicate(timeout=60)
    assert started.returncode == 130
    there = json.loads(out)
    assert there["stop_reason"] == "interrupted"
    made = str(len(there["tokens"]))
    asked = ("-p", SURE, "-n", made, "--temp", "0", "--threads", "1", "--json")
    here = json.loads(ready.cli("run", tiny_gguf, *asked).stdout)
    assert (there["text"], there["tokens"]) == (here["text"], here["tokens"])
    assert ready.ends()


def test_this_program_is_killed(ready: Pi) -> None:
    started = begun(ready, *LONG)
    started.kill()
    started.communicate()
    assert ready.ends(), "the server there outlived the program here"


def test_a_throttled_pi(ready: Pi) -> None:
    """No machine here throttles on request: a vcgencmd of the tests' says that it does."""
    program = ready.server.home / "bin/vcgencmd"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    program.chmod(0o755)
    try:
        done = ready.cli("run", "--device", "pi", "-p", "x", "-n", "1", "--temp", "0")
    finally:
        program.unlink()
        program.parent.rmdir()
    assert "pi is slower than it could be: under-voltage, throttled" in done.stderr


def test_serve_and_stop(ready: Pi) -> None:
    serving = ready.folder / "serving.json"
    started = ready.cli.start("devices", "serve", "pi", "--port", "0", "--json")
    assert started.stdout
    lines: list[bytes] = []
    while not (lines and lines[-1].startswith(b"}")):
        lines.append(started.stdout.readline())
        assert lines[-1], started.communicate()
    said = json.loads(b"".join(lines))
    assert said["state"] == "serving"
    request = urllib.request.Request(
        said["url"] + "/v1/completions",
        json.dumps({"prompt": SURE, "max_tokens": 3, "temperature": 0}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.load(answer)["choices"][0]["text"]
    here = said["url"].removeprefix("http://")
    for header, status in (
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "http://evil.com"}, 403),
        ({"Host": "evil.com"}, 403),
    ):
        with closing(http.client.HTTPConnection(here, timeout=60)) as connection:
            connection.request("GET", "/props", headers=header)
            assert connection.getresponse().status == status, header
    what, _, fix = ready.cli.fails("devices", "serve", "pi", "--port", "0", code=6)
    assert "a server runs on pi already" in what
    assert fix == "stop it: plm-edge stop --device pi"
    stopped = json.loads(ready.cli("devices", "serve", "pi", "--stop", "--json").stdout)
    assert stopped["state"] == "stopped"
    assert ended(started) == (0, [])  # --json leaves notes out
    assert ready.ends()
    wait_until(lambda: not serving.exists())
    # a note of a server that is gone, as after the Pi lost its power
    serving.write_text(json.dumps({"pid": os.getpid()}))
    started = ready.cli.start("devices", "serve", "pi", "--port", "0")
    assert started.stdout
    assert started.stdout.readline().startswith(b"http://127.0.0.1:")
    started.send_signal(signal.SIGINT)
    code, lines_ = ended(started)
    assert (code, lines_[-1]) == (0, "stopped")
    assert ready.ends()
    wait_until(lambda: not serving.exists())


def test_serve_in_the_background(ready: Pi) -> None:
    ready.cli.env["PLM_EDGE_API_KEY"] = "secret-of-the-pi"
    try:
        about = json.loads(
            ready.cli(
                "serve", "--device", "pi", "-d", "--port", "0", "--idle", "1", "--json"
            ).stdout
        )
        port = str(about["port"])
        assert about["device"] == "pi"
        [listed] = json.loads(ready.cli("ps", "--json").stdout)["servers"]
        assert (listed["port"], listed["device"]) == (about["port"], "pi")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{about['url']}/v1/models", timeout=60)
        assert "listening on" in ready.cli("logs", "--device", "pi", "-n", "1000").stdout
        wait_until(lambda: '"asleep"' in ready.cli("ps", "--json").stdout)
        follower = ready.cli.start("logs", "-f", "--device", "pi")
        assert follower.stdout is not None
        assert any(b"listening on" in line for line in follower.stdout)  # it follows by now
    finally:
        del ready.cli.env["PLM_EDGE_API_KEY"]
        ready.cli("stop", port)
    _, told = finish(follower)
    assert b"the server has ended" in told
    assert ready.ends()
    assert json.loads(ready.cli("ps", "--json").stdout)["servers"] == []
