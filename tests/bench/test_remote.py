"""Bench on another machine: over ssh to a private server here, by the real llama-bench."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.bench import remote
from plm_edge.bench.runner import Setting
from plm_edge.bench.workload import Point
from plm_edge.errors import PlmEdgeError
from plm_edge.fleet import profile
from plm_edge.fleet.connect import Opened
from plm_edge.fleet.profile import Profile
from tests.bench.conftest import SHORT, check
from tests.fleet.conftest import ssh
from tests.fleet.sshd import Sshd

ENGINE = Path(__file__).resolve().parents[2] / "build/engine/bin"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    made = Sshd(tmp_path_factory.mktemp("sshd")).start()
    yield made
    made.stop()


def placed(folder: Path) -> Profile:
    """A profile whose files go to `folder`."""
    found = profile.find("x86-64-v2")
    transport = {"kind": "ssh", "folder": str(folder)}
    return replace(found, data=found.data | {"transport": transport})


def test_a_loopback_host_gives_a_complete_result(
    tiny_gguf: Path, server: Sshd, tmp_path: Path
) -> None:
    devices = [Opened(name, placed(tmp_path / name), ssh(server)) for name in ("one", "two")]
    found = remote.run(devices, Setting(tiny_gguf, threads=1), SHORT, ENGINE)
    assert [result["machine"]["device"] for result in found] == ["one", "two"]
    for result in found:
        check(result)
        assert [point["name"] for point in result["points"]] == ["pp32", "tg4", "tg4 @ d64"]
        for point in result["points"]:
            assert point["tps"]["n"] == 2
        assert result["power"]["meters"] or result["power"]["lacking"]


def test_llama_benchs_own_line() -> None:
    line = '{"n_threads": 4, "samples_ns": [500000000, 250000000]}\n'
    found = remote.parse(Point("decode", 10), "noise\n" + line, end=100.0)
    assert [sample["seconds"] for sample in found.samples] == [0.5, 0.25]
    assert found.samples[0]["start"] == pytest.approx(99.25)
    assert found.loaded == {"threads": 4}


def test_no_result_is_an_error() -> None:
    with pytest.raises(PlmEdgeError, match="no result"):
        remote.parse(Point("decode", 10), "error: model not found\n", 0.0)


def test_without_an_engine(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(PlmEdgeError, match="no engine"):
        remote.run([], Setting(tiny_gguf), SHORT, tmp_path)
