"""Ctrl-C, readers that leave, and prefills that are too long to wait for."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from testkit.cli import Cli

ENDLESS = ("-n", "-1", "--ctx", "200000", "--temp", "0", "--threads", "1", "--force")


def test_ctrl_c_stops_between_tokens(cli: Cli, models: Path) -> None:
    process = cli.start("run", models / "abc.gguf", "-p", "hi", *ENDLESS)
    assert process.stdout is not None
    # not through the buffered reader: communicate() would not see what that has read ahead
    begun = os.read(process.stdout.fileno(), 9)
    assert begun == b"abcabcabc"[: len(begun)]  # the end is far away
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=120)
    assert process.returncode == 130
    text = (begun + rest).decode()
    assert text.endswith("\n")
    assert text[:-1] == ("abc" * len(text))[: len(text) - 1]
    assert "stopped by Ctrl-C" in err.decode()
    assert "Traceback" not in err.decode()


def test_ctrl_c_with_json_still_gives_the_result(cli: Cli, models: Path) -> None:
    process = cli.start("run", models / "abc.gguf", "-p", "hi", "--json", *ENDLESS)
    _wait_for_load(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    got = json.loads(out)
    assert got["stop_reason"] == "interrupted"
    assert got["text"].startswith("abcabc")
    assert got["stats"]["decode_tps"] > 0


def test_ctrl_c_stops_a_long_prefill(cli: Cli, models: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt"
    prompt.write_text("x" * 190_000)
    with prompt.open("rb") as file:
        process = subprocess.Popen(
            [*cli.command, "run", models / "random.gguf", "-p", "-", "--json", *ENDLESS],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=cli.env,
        )
        _wait_for_load(process)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - children.ru_utime
    assert spent < 10  # seconds of its processor from its start: the whole takes minutes
    assert process.returncode == 130, err
    got = json.loads(out)
    assert got["stop_reason"] == "interrupted"
    assert got["tokens"] == []
    # It had begun, and would have gone on for a long time.
    computed = got["stats"]["kv_bytes_used"] / got["stats"]["kv_bytes_per_token"]
    assert 0 <= computed < 100_000


def test_a_reader_that_leaves(cli: Cli, models: Path) -> None:
    process = cli.start("run", models / "abc.gguf", "-p", "hi", *ENDLESS)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(6) == b"abcabc"
    process.stdout.close()
    assert process.wait(timeout=120) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_inspect_into_head(cli: Cli, models: Path) -> None:
    command = " ".join(cli.command)
    done = subprocess.run(
        ["bash", "-c", f"{command} inspect {models}/abc.gguf --tensors | head -1"],
        capture_output=True,
        env=cli.env,
        text=True,
    )
    assert done.stdout.startswith("file")
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [("inspect", "abc.gguf"), ("show", "nothing.gguf")])
def test_nobody_reads_at_all(cli: Cli, models: Path, arguments: tuple[str, str]) -> None:
    """Tables and errors end as the text of `run` does: rich itself would say 1, which is a bug."""
    reading, writing = os.pipe()
    os.close(reading)
    command, name = arguments
    done = subprocess.run(
        [*cli.command, command, models / name], stdout=writing, stderr=writing, env=cli.env
    )
    os.close(writing)
    assert done.returncode == (3 if name == "nothing.gguf" else 141)


def _wait_for_load(process: subprocess.Popen[bytes]) -> None:
    """Until the process has the engine, and has computed with it for a moment."""
    loaded_at: float | None = None
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"ended early: {process.communicate()}")
        if loaded_at is None:
            if "libllama" in Path(f"/proc/{process.pid}/maps").read_text():
                loaded_at = _cpu_seconds(process.pid)
        elif _cpu_seconds(process.pid) > loaded_at + 1.5:
            return
        time.sleep(0.02)
    pytest.fail("the model was never loaded")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
