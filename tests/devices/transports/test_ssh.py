"""ssh against a real server: who is let in, which keys are trusted, and breaks of every kind."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.ssh import SshTransport
from testkit import needs
from testkit.devices.programs import HELLO, built
from testkit.devices.sshd import SMALL, Sshd, _keygen, ssh

pytestmark = pytest.mark.slow

DATA = bytes(range(256)) * (64 * 1024)  # 16 MiB: more than sockets and windows swallow


def test_the_users_own_settings_are_read(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "person"
    (home / ".ssh").mkdir(parents=True)
    shutil.copy(server.config, home / ".ssh/config")
    monkeypatch.setenv("HOME", str(home))
    with SshTransport("pi") as device:
        assert device.shell("echo here").text == "here\n"
        assert device.shell("pwd").text.strip() == str(server.home)


def test_a_program_for_arm_on_the_pi(own_server: Sshd) -> None:
    own_server.start(arm=True)
    with ssh(own_server) as device:
        device.put(built(HELLO, "armv8-a"), "plm-edge/hello", mode=0o755)
        done = device.run(["plm-edge/hello", "a b"], env={"CODE": "5"})
    assert (done.text, done.exit_code) == ("hello\na b\n", 5)


def test_an_address_with_user_and_port(server: Sshd) -> None:
    with SshTransport(server.host, config=server.config) as device:
        assert device.alive()


@pytest.mark.parametrize("host", ["", "a b", "pi@", "pi:port", "@host", "pi:0", "pi:99999"])
def test_an_address_of_another_form(host: str) -> None:
    with pytest.raises(PlmEdgeError, match="no ssh address"):
        SshTransport(host)


def test_a_host_that_was_never_seen(own_server: Sshd) -> None:
    own_server.start()
    own_server.known_hosts.write_text("")
    with ssh(own_server) as device, pytest.raises(failures.WrongHostKey) as caught:
        device.shell("true")
    assert "not known yet" in caught.value.what
    assert "SHA256:" in caught.value.why
    assert f"ssh -p {own_server.port}" not in caught.value.fix  # the alias is enough
    assert "ssh pi" in caught.value.fix
    assert own_server.known_hosts.read_text() == ""
    assert not device.alive()


def test_a_host_key_that_changed(own_server: Sshd) -> None:
    own_server.new_host_key()
    own_server.start()
    with ssh(own_server) as device, pytest.raises(failures.WrongHostKey) as caught:
        device.shell("true")
    assert "another host key than before" in caught.value.what
    assert f"ssh-keygen -R '[127.0.0.1]:{own_server.port}'" in caught.value.fix
    assert caught.value.code == 6


def test_a_key_that_is_not_accepted(own_server: Sshd, tmp_path: Path) -> None:
    _keygen(tmp_path / "other")
    own_server.write_config(key=tmp_path / "other")
    own_server.start("PasswordAuthentication no", "KbdInteractiveAuthentication no")
    with ssh(own_server) as device, pytest.raises(failures.NotAllowed) as caught:
        device.shell("true")
    assert "does not let us in" in caught.value.what
    assert "ssh-copy-id pi" in caught.value.fix


def test_a_wrong_password(own_server: Sshd, tmp_path: Path) -> None:
    _keygen(tmp_path / "other")
    own_server.write_config(key=tmp_path / "other")
    own_server.start("PasswordAuthentication yes")
    asked: list[str] = []

    def password(prompt: str) -> str:
        asked.append(prompt)
        return "certainly not"

    device = SshTransport("pi", config=own_server.config, password=password)
    with device, pytest.raises(failures.NotAllowed):
        device.shell("true")
    assert 1 <= len(asked) <= 3
    assert "pi" in asked[0]


def test_nobody_answers(server: Sshd, tmp_path: Path) -> None:
    with SshTransport("127.0.0.1:9", config=server.config) as device:
        with pytest.raises(failures.Unreachable) as caught:
            device.shell("true")
        assert "refused" in caught.value.why
        assert not device.alive()
    with (
        SshTransport("no-such-host.invalid", config=server.config) as device,
        pytest.raises(failures.Unreachable),
    ):
        device.shell("true")


def test_broken_settings(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key at all\n")
    server_config = tmp_path / "config"
    server_config.write_text(
        f"Host pi\n  HostName 127.0.0.1\n  IdentityFile {tmp_path}/key\n  Port x\n"
    )
    with SshTransport("pi", config=server_config) as device, pytest.raises(failures.DeviceError):
        device.shell("true")


def test_the_connection_breaks_in_a_push_and_the_next_one_goes_on(
    own_server: Sshd, tmp_path: Path
) -> None:
    own_server.start()
    source = tmp_path / "model"
    source.write_bytes(DATA)

    def cut_at_half(done: int, total: int) -> None:
        if done >= total // 2:
            own_server.cut()

    with ssh(own_server) as device:
        with pytest.raises(failures.ConnectionLost) as caught:
            device.put(source, "model", progress=cut_at_half, attempts=1)
        assert "continue where they were" in caught.value.fix
        assert not (own_server.home / "model").exists()
        steps: list[int] = []
        assert device.put(source, "model", progress=lambda done, total: steps.append(done))
    assert 0 < steps[0] < len(DATA)
    assert (own_server.home / "model").read_bytes() == DATA
    assert [path.name for path in own_server.home.iterdir()] == ["model"]


def test_one_break_is_not_even_noticed(own_server: Sshd, tmp_path: Path) -> None:
    own_server.start()
    source = tmp_path / "model"
    source.write_bytes(DATA)
    cuts: list[int] = []

    def cut_once(done: int, total: int) -> None:
        if done >= total // 2 and not cuts:
            cuts.append(done)
            own_server.cut()

    with ssh(own_server) as device:
        assert device.put(source, "model", progress=cut_once)
        assert device.get("model", tmp_path / "back", attempts=1)
    assert cuts
    assert (tmp_path / "back").read_bytes() == DATA


def test_the_connection_breaks_in_a_command(own_server: Sshd) -> None:
    own_server.start()
    with ssh(own_server) as device:
        assert device.alive()
        # in a thread of its own: this one reads what comes
        cut = threading.Thread(target=own_server.cut)
        began = time.monotonic()
        with pytest.raises(failures.ConnectionLost):
            device.shell("echo begun; sleep 600", on_stdout=lambda _: cut.start())
        cut.join()
        assert time.monotonic() - began < 120
        assert device.shell("echo again").text == "again\n"


def test_a_full_disk_is_foreseen(server: Sshd, tmp_path: Path) -> None:
    needs.mounts()  # the server has a small disk then
    source = tmp_path / "model"
    source.write_bytes(DATA)
    steps: list[int] = []
    with ssh(server) as device, pytest.raises(failures.DiskFull) as caught:
        device.put(source, f"{server.small}/model", progress=lambda *step: steps.append(step[0]))
    assert steps == []
    assert "16 MiB are needed" in caught.value.why
    assert caught.value.code == 5


def test_a_disk_that_runs_full_meanwhile(server: Sshd, tmp_path: Path) -> None:
    needs.mounts()
    source = tmp_path / "model"
    source.write_bytes(DATA[: SMALL * 3 // 4])
    filled: list[int] = []
    with ssh(server) as device, ssh(server) as other:

        def fill(done: int, total: int) -> None:
            if not filled:
                # in a thread of its own: this one moves the file
                worker = threading.Thread(
                    target=other.shell, args=(f"head -c {SMALL} /dev/zero > {server.small}/other",)
                )
                worker.start()
                worker.join()
                filled.append(done)

        with pytest.raises(failures.DiskFull) as caught:
            device.put(source, f"{server.small}/model", progress=fill)
        assert "ran full" in caught.value.why
        other.shell(f"rm {server.small}/other", check=True)
        assert device.put(source, f"{server.small}/model")
        device.shell(f"rm {server.small}/model", check=True)


def test_a_port_there_is_reached_from_here(server: Sshd) -> None:
    with socket.socket() as listening, ssh(server) as device:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        there = listening.getsockname()[1]
        with device.forward(there) as here:
            assert here != there
            with socket.create_connection(("127.0.0.1", here), timeout=60) as client:
                served, _ = listening.accept()
                with served:
                    served.sendall(b"hello")
                    assert client.recv(16) == b"hello"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", here), timeout=60).close()
        with pytest.raises(PlmEdgeError, match=f"port {there} of this machine"):  # noqa: SIM117
            with device.forward(1, there):
                pass


def test_input_that_comes_late_does_not_hold_others_up(server: Sshd) -> None:
    """The connection serves other commands while one waits for its input."""
    waiting = threading.Event()

    def late() -> Iterator[bytes]:
        yield b"first "
        assert waiting.wait(120)
        yield b"second"

    with ssh(server) as device:
        found: list[str] = []
        worker = threading.Thread(
            target=lambda: found.append(device.shell("cat", stdin=late()).text)
        )
        assert device.alive()
        worker.start()
        assert device.shell("echo meanwhile", timeout=60).text == "meanwhile\n"
        waiting.set()
        worker.join(120)
    assert found == ["first second"]
