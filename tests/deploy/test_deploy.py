"""Deploying to a Pi by ssh: what comes there, what is not sent twice, what refuses."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.files import sha256
from plm_edge.deploy import proof, running
from plm_edge.devices.transports import failures
from testkit.devices.sshd import SMALL
from tests.deploy.conftest import SURE, Pi

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("pi")]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_whole_way(pi: Pi, tiny_gguf: Path) -> None:
    first = pi.deploy(tiny_gguf)
    wanted = ["bin/llama-server", "bin/plm-edge-bench"]  # of an engine with more programs
    assert sorted(path.split("/", 2)[2] for path in first["sent"]) == sorted(
        [*wanted, tiny_gguf.name]
    )
    assert first["bytes_sent"] == pi.size + tiny_gguf.stat().st_size
    there = json.loads(pi.manifest.read_text())
    assert there["schema"] == "plm-edge/deployed/2"
    assert there["engine"]["key"] == pi.engine.manifest.key
    assert [*there["models"]] == [sha256(tiny_gguf)]
    assert "@" in there["from"]
    assert there["when"].endswith("+00:00")
    model = there["models"][sha256(tiny_gguf)]
    assert len(model["proof"]["tokens"]) >= proof.ENOUGH
    assert model["proof"]["margin"] >= proof.MARGIN
    for item in [*there["engine"]["files"], model["file"]]:
        assert sha256(pi.folder / item["path"]) == item["sha256"]
    assert not (pi.folder / "incoming").exists()
    # again: all of it fits already
    began = pi.manifest.stat().st_mtime_ns
    again = pi.deploy(tiny_gguf)
    assert (again["sent"], again["bytes_sent"]) == ([], 0)
    assert pi.manifest.stat().st_mtime_ns == began
    # the same text as here
    asked = ("-p", SURE, "-n", "12", "--temp", "0", "-q")
    assert (
        pi.cli("run", "--device", "pi", *asked).stdout
        == pi.cli("run", tiny_gguf, "--threads", "1", *asked).stdout
    )
    # and all of it goes again, with the folders that it made, and nothing else
    (pi.server.home / ".local/mine").write_text("not ours")
    cleaned = json.loads(pi.cli("devices", "clean", "pi", "--json").stdout)
    assert len(cleaned["removed"]) == len(wanted) + 2  # the model, the manifest
    assert files(pi.server.home) == [".local/mine"]
    assert not (pi.server.home / ".local/share").exists()
    assert json.loads(pi.cli("devices", "clean", "pi", "--json").stdout)["removed"] == []


def test_a_push_that_breaks_goes_on_where_it_was(pi: Pi, tiny_gguf: Path) -> None:
    total = pi.size + tiny_gguf.stat().st_size

    def break_at_half(what: str, done: int, size: int) -> None:
        if what.endswith("llama-server") and done >= size // 2:
            pi.server.stop()

    with pytest.raises(failures.DeviceError) as caught:
        pi.deploy_here(tiny_gguf, break_at_half)
    assert isinstance(caught.value, failures.ConnectionLost | failures.Unreachable)
    assert not pi.manifest.exists()
    arrived = sum((pi.server.home / path).stat().st_size for path in files(pi.server.home)
                  if "/incoming/" in path)  # fmt: skip
    assert 0 < arrived < total
    pi.server.start(arm=True)
    # nothing of it can be used
    lines = pi.cli.fails("run", "--device", "pi", "-p", "x", code=3)
    assert lines[0] == "nothing is deployed on pi"
    done = pi.deploy(tiny_gguf)
    assert done["bytes_sent"] == total - arrived
    assert not list(pi.folder.rglob("*.part"))
    # an interrupted one is cleaned as well
    pi.cli("devices", "clean", "pi")
    with pytest.raises(failures.DeviceError):
        pi.deploy_here(tiny_gguf, break_at_half)
    pi.server.start(arm=True)
    pi.cli("devices", "clean", "pi")
    assert files(pi.server.home) == []


def test_ctrl_c_in_a_push(pi: Pi, tiny_gguf: Path) -> None:
    total = pi.size + tiny_gguf.stat().st_size

    pressed: list[int] = []

    def press(what: str, done: int, size: int) -> None:
        if what.endswith("llama-server") and done >= size // 2 and not pressed:
            pressed.append(done)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)  # the main thread hears it, and ends the push

    with pytest.raises(KeyboardInterrupt):
        pi.deploy_here(tiny_gguf, press)
    assert not pi.manifest.exists()
    pi.cli.fails("run", "--device", "pi", "-p", "x", code=3)
    assert 0 < pi.deploy(tiny_gguf)["bytes_sent"] < total
    assert pi.manifest.exists()


def test_a_changed_file_is_noticed_and_sent_again(pi: Pi, tiny_gguf: Path) -> None:
    pi.deploy(tiny_gguf)
    model = next(pi.folder.glob("models/*/*.gguf"))
    program = next(pi.folder.glob("engine/*/bin/llama-server"))
    before = program.stat().st_ino
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    os.utime(model, (pi.manifest.stat().st_mtime + 10,) * 2)
    what, why, fix = pi.cli.fails("run", "--device", "pi", "-p", "x", code=6)
    assert "not what was deployed" in what
    assert tiny_gguf.name in why
    assert "deploy --device pi" in fix
    done = pi.deploy(tiny_gguf)
    assert [path.rsplit("/", 1)[-1] for path in done["sent"]] == [tiny_gguf.name]
    assert sha256(model) == sha256(tiny_gguf)
    assert program.stat().st_ino == before
    # one that is missing
    model.unlink()
    with pytest.raises(PlmEdgeError, match="not what was deployed"):
        running.find(pi.opened(), None)


def test_other_tokens_leave_nothing_usable(
    pi: Pi, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that computes something else: here it is the reference that is changed."""
    right = proof.reference(tiny_gguf)
    wrong = replace(right, tokens=[*right.tokens[:-1], right.tokens[-1] + 1])
    monkeypatch.setattr(proof, "reference", lambda model: wrong)
    with pytest.raises(PlmEdgeError) as caught:
        pi.deploy_here(tiny_gguf, lambda what, done, size: None)
    assert "does not compute what this machine does" in caught.value.what
    assert f"number {len(right.tokens)} is another one" in caught.value.why
    assert not pi.manifest.exists()
    assert pi.ends()
    # what was sent is not sent again once it computes right
    monkeypatch.setattr(proof, "reference", lambda model: right)
    done = pi.deploy_here(tiny_gguf, lambda what, done, size: None)
    assert (done.sent, done.bytes_sent) == ([], 0)


def test_a_machine_of_another_architecture(pi: Pi, tiny_gguf: Path) -> None:
    pi.server.stop()
    pi.server.start()  # as what it is
    what, why, _ = pi.cli.fails("deploy", tiny_gguf, "--device", "pi", code=4)
    assert what == "pi is no rpi5"  # before minutes of building
    assert why == "it is x86_64, and the profile says aarch64"
    what, why, fix = pi.cli.fails(
        "deploy", tiny_gguf, "--device", "pi", "--engine", pi.engine.folder, code=4
    )
    assert "does not run on pi" in what
    assert "aarch64" in why
    assert "x86_64" in why
    assert "engine build" in fix
    assert files(pi.server.home) == []


def test_a_full_disk_is_foreseen_for_all_of_it(pi: Pi, tiny_gguf: Path) -> None:
    small = Path(pi.cli.env["PLM_EDGE_CONFIG_DIR"]) / "devices/small.toml"
    small.parent.mkdir()
    text = pi.cli("devices", "show", "rpi5", "--toml").stdout
    text = text.replace('"rpi5"', '"small"').replace(
        'folder = ".local/share/plm-edge"', f'folder = "{pi.server.small}/ours"'
    )
    small.write_text(text)
    pi.cli("devices", "add", "full", "--profile", "small", "--host", "pi")
    what, why, _ = pi.cli.fails(
        "deploy", tiny_gguf, "--device", "full", "--engine", pi.engine.folder, code=5
    )
    assert files(pi.server.home) == []
    assert "no room" in what
    assert f"{SMALL / 2**20:.0f} MiB are free" in why
    said = pi.cli("devices", "clean", "full", "--json").stdout
    assert json.loads(said)["removed"] == []


def test_nobody_there(pi: Pi, tiny_gguf: Path) -> None:
    pi.server.stop()
    for call in (("deploy", tiny_gguf), ("run", "-p", "x")):
        what, why, _ = pi.cli.fails(*call, "--device", "pi", code=6)
        assert "pi cannot be reached" in what
        assert "refused" in why


def test_a_wrong_password(pi: Pi, tiny_gguf: Path) -> None:
    """No terminal to ask at: what is left without a key is refused, with a word on keys."""
    pi.server.stop()
    (pi.server.folder / "authorized_keys").write_text("")
    pi.server.start("PasswordAuthentication yes", arm=True)
    what, _, fix = pi.cli.fails("deploy", tiny_gguf, "--device", "pi", code=6)
    assert "does not let us in" in what
    assert "ssh-copy-id" in fix
    assert files(pi.server.home) == []


def test_a_wrong_password_at_the_terminal(pi: Pi, tiny_gguf: Path) -> None:
    pi.server.stop()
    (pi.server.folder / "authorized_keys").write_text("")
    pi.server.start("PasswordAuthentication yes", arm=True)
    command = [*pi.cli.command, "deploy", str(tiny_gguf), "--device", "pi"]
    child = pexpect.spawn(
        command[0],
        command[1:],
        env=pi.cli.env,
        timeout=60,
        encoding="utf-8",
        dimensions=(40, 200),
    )
    for _ in range(3):
        child.expect("password of pi: ")
        child.waitnoecho()
        child.sendline("certainly not")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 6
    said = str(child.before)
    assert "does not let us in" in said
    assert "certainly not" not in said
    assert files(pi.server.home) == []


def test_another_host_key(pi: Pi, tiny_gguf: Path) -> None:
    pi.server.stop()
    pi.server.new_host_key()
    pi.server.start(arm=True)
    what, _, fix = pi.cli.fails("deploy", tiny_gguf, "--device", "pi", code=6)
    assert "another host key than before" in what
    assert "ssh-keygen -R" in fix
    assert files(pi.server.home) == []
