"""A Raspberry Pi 5 under qemu: right tokens, instructions that repeat, and no time anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench import emulation, session
from plm_edge.bench.result.shape import as_json
from plm_edge.bench.worker import counting
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.workload import Workload
from plm_edge.deploy import proof
from plm_edge.devices.connect import OpenDevice
from plm_edge.devices.profiles import profile
from plm_edge.devices.transports.qemu import QemuTransport
from testkit import needs
from testkit.engines import engine
from tests.bench.conftest import Silent, check

QEMU = "qemu-aarch64"
SHORT = emulation.workload(Workload("short", (16,), (0, 64), (1,), 2, loads=True))


@pytest.fixture(scope="module")
def site(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> emulation.Emulated:
    described = profile.find("rpi5")
    transport = QemuTransport(described, tmp_path_factory.mktemp("pi"))
    opened = OpenDevice("rpi5", described, transport, "rpi5 --emulate")
    made = emulation.Emulated(
        opened, engine("rpi5"), Setting(tiny_gguf, threads=4), transport.facts()
    )
    made.send(lambda what, done, total: None)
    return made


@pytest.fixture(scope="module")
def found(site: emulation.Emulated) -> dict[str, Any]:
    return as_json(session.Bench(site, SHORT, Silent()).run())


@pytest.mark.full
def test_the_result_is_complete_and_has_no_time_in_it(found: dict[str, Any]) -> None:
    check(found)
    names = [point["name"] for point in found["points"]]
    assert names == ["load cold", "load warm", "pp16", "tg2", "tg2 @ d64"]
    for point in found["points"]:
        assert not {"tps", "seconds", "samples_s", "inter_token_s", "ttft_s", "bounds"} & set(point)
        assert point["instructions"]["a_token"] > 1000
    assert "capability" not in found
    assert found["power"]["meters"] == []
    assert found["settings"]["threads"] == 1


@pytest.mark.full
def test_its_tokens_are_this_machines(found: dict[str, Any]) -> None:
    tokens = found["emulation"]["tokens"]
    assert tokens["equal"]
    assert tokens["here"] == tokens["there"]
    assert len(tokens["here"]) >= proof.ENOUGH


@pytest.mark.full
def test_counts_repeat_and_grow_with_the_context(found: dict[str, Any]) -> None:
    by_name = {point["name"]: point["instructions"] for point in found["points"]}
    for name in ("pp16", "tg2", "tg2 @ d64"):
        first, second = by_name[name]["samples"]
        assert second == pytest.approx(first, rel=0.2)  # other random tokens, other zeros
    assert by_name["tg2 @ d64"]["a_token"] > by_name["tg2"]["a_token"]
    assert by_name["pp16"]["a_token"] < by_name["tg2"]["a_token"]


@pytest.mark.full
def test_other_tokens_are_an_error(
    site: emulation.Emulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "_greedy", lambda prompt, count: [0] * count)
    with pytest.raises(PlmEdgeError, match="does not compute what this machine does"):
        site.head()


def test_marks_come_in_pairs(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    counts.write_text("100\n150\n160\n240\n")
    assert counting.between_marks(counts) == [50, 80]
    assert counting.between_marks(tmp_path / "none") == []


def test_without_a_compiler_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    emulator = needs.program(QEMU)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(counting.NotCounted, match="compiler"):
        counting.Counter(emulator, "aarch64", tmp_path)


def test_an_emulator_that_takes_no_plugins(tmp_path: Path) -> None:
    other = tmp_path / "qemu-other"
    other.write_text("#!/bin/sh\necho 'no -plugin here' >&2\nexit 1\n")
    other.chmod(0o755)
    with pytest.raises(counting.NotCounted, match="takes no such plugin: no -plugin here"):
        counting.Counter(str(other), "aarch64", tmp_path / "kept")
