"""What holds for every machine: this one, one by ssh, one by adb, an emulated one."""

from __future__ import annotations

import random
import shlex
import threading
import time
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.files import sha256
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.transport import Transport
from testkit.devices.programs import hello

DATA = bytes(range(256)) * 4096 + b"end"  # 1 MiB and a little


def test_a_script_with_output_errors_and_exit_code(device: Transport) -> None:
    done = device.shell("echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 7)
    assert done.text == "out\n"
    assert done.complaint == "err"
    assert 0 < done.seconds < 60


def test_a_program_with_awkward_arguments(device: Transport, tmp_path: Path) -> None:
    program = hello(device, tmp_path)
    words = ["two words", "it's", '"$HOME"', "*", "", "-n", "ümlaut"]
    done = device.run([program, *words], env={"GREETING": "good day; it's me"})
    assert done.text.splitlines() == ["good day; it's me", *words]
    assert device.run([program], env={"CODE": "9"}).exit_code == 9


def test_a_folder_to_run_in(device: Transport, tmp_path: Path) -> None:
    program = hello(device, tmp_path, "folder with blanks/hello")
    assert "/" in program
    done = device.run(["./hello", "x"], cwd="folder with blanks")
    assert done.text.splitlines()[-1] == "x"
    assert device.run(["./hello"], cwd="no/such/folder").exit_code != 0


def test_input_of_any_bytes(device: Transport) -> None:
    assert device.shell("cat", stdin=DATA).stdout == DATA
    assert device.shell("cat").stdout == b""


def test_input_that_nobody_reads(device: Transport) -> None:
    assert device.shell("exit 3", stdin=DATA * 8).exit_code == 3


def test_output_comes_while_it_runs(device: Transport) -> None:
    """It ends when this side has had the first of it."""
    seen: list[bytes] = []
    went = threading.Thread(target=lambda: device.shell("echo > go"))

    def come(data: bytes) -> None:
        seen.append(data)
        if len(seen) == 1:
            went.start()

    wait = "n=0; until [ -e go ] || [ $n = 600 ]; do sleep 0.1; n=$((n + 1)); done"
    done = device.shell(f"rm -f go; echo one; {wait}; [ -e go ] && echo two", on_stdout=come)
    went.join()
    assert b"".join(seen) == b"one\ntwo\n"
    assert done.stdout == b""


def test_time_is_up_and_nothing_goes_on(device: Transport) -> None:
    seconds = _seconds()
    with pytest.raises(failures.TimedOut) as caught:
        device.shell(f"sleep {seconds}; echo never", timeout=1.5)
    assert device.name in caught.value.what
    assert "1.5 s" in caught.value.why
    # what started it is gone, and so is what it had started
    assert _sleeping(device, seconds) == "0"


def test_time_is_up_before_it_has_named_itself(device: Transport) -> None:
    device.shell("exit 0")  # connects
    for tenths_of_milliseconds in range(0, 160, 10):
        seconds = _seconds()
        with pytest.raises(failures.TimedOut):
            device.shell(f"sleep {seconds}; echo never", timeout=tenths_of_milliseconds / 1e4)
        assert _sleeping(device, seconds) == "0"


def _seconds() -> str:
    """For how long to sleep: as no other test does."""
    return f"{random.randrange(10**6, 10**7)}"


def _sleeping(device: Transport, seconds: str) -> str:
    """How many processes there sleep for so long; they get their time to end."""
    pattern = f"[s]leep {seconds}"  # which neither this script nor grep itself is found by
    script = f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c '{pattern}'"
    for _ in range(100):
        left = device.shell(script).text.strip()
        if left == "0":
            break
        time.sleep(0.2)
    return left


def test_a_failure_is_told(device: Transport) -> None:
    with pytest.raises(failures.CommandFailed) as caught:
        device.shell("echo it is broken >&2; exit 4", check=True)
    assert "it is broken" in caught.value.why
    with pytest.raises(failures.CommandFailed):
        device.shell("no-such-program-anywhere", check=True)


def test_the_kernels_kill_is_recognised(device: Transport) -> None:
    with pytest.raises(failures.OutOfMemory) as caught:
        device.shell("kill -9 $$", check=True)
    assert "ran out of memory" in caught.value.what
    assert caught.value.code == 5


def test_an_illegal_instruction_is_recognised(device: Transport) -> None:
    with pytest.raises(failures.IllegalInstruction) as caught:
        device.shell("kill -4 $$", check=True)
    assert "devices detect" in caught.value.fix


def test_a_program_for_nothing_known(device: Transport) -> None:
    device.shell("printf '\\177ELF garbage' > wrong; chmod +x wrong", check=True)
    with pytest.raises(failures.DeviceError):
        device.run(["./wrong"], check=True)


def test_it_is_alive(device: Transport) -> None:
    assert device.alive()


def test_put_and_get(device: Transport, tmp_path: Path) -> None:
    source, back = tmp_path / "model.gguf", tmp_path / "deep/back.gguf"
    source.write_bytes(DATA)
    seen: list[tuple[int, int]] = []
    target = "put/a folder/it's -here-.gguf"
    assert device.put(source, target, mode=0o755, progress=lambda *step: seen.append(step))
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert device.shell(f"[ -x {shlex.quote(target)} ]").exit_code == 0
    assert device.shell("ls 'put/a folder'").text == "it's -here-.gguf\n"
    assert device.get(target, back)
    assert back.read_bytes() == DATA
    assert [path.name for path in back.parent.iterdir()] == ["back.gguf"]


def test_what_is_there_is_not_sent_again(device: Transport, tmp_path: Path) -> None:
    source, back = tmp_path / "file", tmp_path / "back"
    source.write_bytes(DATA)
    assert device.put(source, "same")
    assert not device.put(source, "same")
    assert device.get("same", back)
    assert not device.get("same", back)
    # of the same size, and another
    device.shell("printf X | dd of=same conv=notrunc bs=1 2>/dev/null", check=True)
    assert device.put(source, "same")
    assert device.get("same", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == DATA


def test_an_empty_file(device: Transport, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert device.put(tmp_path / "empty", "empty")
    assert device.get("empty", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_a_push_goes_on_where_it_stopped(device: Transport, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(DATA)
    part = f"resumed.{sha256(source)[:16]}.part"
    device.shell(
        f"cat > {part}; echo old > resumed.0123456789abcdef.part; echo > resumed.x.part",
        stdin=DATA[:500_000],
    )
    seen: list[int] = []
    assert device.put(source, "resumed", progress=lambda done, total: seen.append(done))
    assert seen[0] == 500_000
    assert device.shell("cat resumed").stdout == DATA
    # an older version's part is gone; what is not ours stays
    assert device.shell("ls resumed*").text == "resumed\nresumed.x.part\n"


def test_a_damaged_part_never_becomes_a_file(device: Transport, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(DATA)
    part = f"damaged.{sha256(source)[:16]}.part"
    device.shell(f"cat > {part}", stdin=b"X" * 1000)
    with pytest.raises(failures.Damaged):
        device.put(source, "damaged")
    assert device.shell("ls damaged* 2>/dev/null").text == ""
    assert device.put(source, "damaged")


def test_a_get_goes_on_where_it_stopped(device: Transport, tmp_path: Path) -> None:
    source, back = tmp_path / "file", tmp_path / "back"
    source.write_bytes(DATA)
    device.put(source, "long")
    back.with_name(f"back.{sha256(source)[:16]}.part").write_bytes(DATA[:300_000])
    seen: list[int] = []
    assert device.get("long", back, progress=lambda done, total: seen.append(done))
    assert seen[0] == 300_000
    assert back.read_bytes() == DATA


def test_files_that_are_not_there(device: Transport, tmp_path: Path) -> None:
    with pytest.raises(PlmEdgeError, match="no file nothing"):
        device.get("nothing", tmp_path / "back")
    with pytest.raises(PlmEdgeError, match="cannot be sent"):
        device.put(tmp_path / "nothing", "there")
    with pytest.raises(failures.DeviceError):
        device.put(Path(__file__), "/proc/no/such/place")


def test_facts(device: Transport) -> None:
    facts = device.facts()
    assert facts.system == "Linux"
    assert facts.machine in ("x86_64", "aarch64")
    assert facts.features
    assert facts.ram
    assert facts.disk_free
    assert sum(group.count for group in facts.groups) >= 1
