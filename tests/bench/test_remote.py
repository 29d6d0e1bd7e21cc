"""Bench on another machine, over ssh to a private server here, by the same program as here."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.files import sha256
from plm_edge.bench import matrix, remote, runner, session, variants
from plm_edge.bench.result.shape import as_json
from plm_edge.bench.worker.client import PointReader, Setting, point_request
from plm_edge.bench.workload import Point
from plm_edge.building.cache import KeptBuild
from plm_edge.devices.connect import OpenDevice
from plm_edge.devices.profiles import profile
from plm_edge.devices.profiles.profile import Profile
from testkit.devices.sshd import Sshd, ssh
from tests.bench import engines
from tests.bench.conftest import SHORT, Silent, check
from tests.parity import fake_gpu

TEXT = "def main():\n    return 0\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    made = Sshd(tmp_path_factory.mktemp("sshd")).start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> KeptBuild:
    return engines.native(tmp_path_factory.mktemp("engine"))


def placed(folder: Path) -> Profile:
    """A profile whose files go to `folder`."""
    found = profile.find("x86-64-v2")
    transport = {"kind": "ssh", "folder": str(folder)}
    return replace(found, data=found.data | {"transport": transport})


def on(server: Sshd, built: KeptBuild, folder: Path, setting: Setting) -> remote.Device:
    """A device with everything on it; its transport is open."""
    opened = OpenDevice(folder.name, placed(folder), ssh(server), folder.name)
    opened.transport.__enter__()
    made = remote.Device(opened, built, setting, opened.transport.facts())
    made.send(lambda what, done, total: None)
    return made


@pytest.fixture(scope="module")
def two(
    server: Sshd, built: KeptBuild, tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Results of two devices that were measured side by side."""
    folder = tmp_path_factory.mktemp("devices")
    sites = [on(server, built, folder / name, Setting(tiny_gguf)) for name in ("one", "two")]
    try:
        benches = [session.Bench(site, SHORT, Silent()) for site in sites]
        return [as_json(one) for one in session.run_side_by_side(benches)]
    finally:
        for site in sites:
            site.transport.close()


def test_a_device_gives_all_that_this_machine_gives(
    two: list[dict[str, Any]], result: dict[str, Any]
) -> None:
    assert [found["machine"]["device"] for found in two] == ["one", "two"]
    for found in two:
        check(found)
        assert set(result) - set(found) == set()
        for there, here in zip(found["points"], result["points"], strict=True):
            assert there["name"] == here["name"]
            if here["skipped"] is None:
                assert set(here) - set(there) == set()
        how = [re.sub(r"\d+", "N", one["capability"]["read_how"]) for one in (found, result)]
        assert how[0] == how[1]  # shares of the bandwidth are of the same reading


def test_memory_and_zeros_are_those_of_the_same_engine_here(
    two: list[dict[str, Any]], result: dict[str, Any]
) -> None:
    for there, here in zip(two[0]["points"], result["points"], strict=True):
        if there["kind"] == "load":
            continue
        for name in ("weights_bytes", "kv_bytes", "kv_bytes_per_token", "compute_bytes"):
            assert there["memory"][name] == here["memory"][name]
        assert [row["rows"] for row in there["rows_by_layer"]] == [
            row["rows"] for row in here["rows_by_layer"]
        ]
        assert there["zeros"] == pytest.approx(here["zeros"], abs=0.1)


def test_its_clock_is_brought_to_ours(two: list[dict[str, Any]]) -> None:
    """Meters are read by this machine's clock: all windows lie one after the other within it."""
    for found in two:
        windows = [p["window"] for p in found["points"] if "window" in p]
        assert windows == sorted(windows)
        for (_, end), (start, _) in itertools.pairwise(windows):
            assert end < start


def test_options_reach_the_device(
    server: Sshd, built: KeptBuild, tiny_gguf: Path, tmp_path: Path
) -> None:
    setting = Setting(tiny_gguf, threads=2, kv="q8_0", text=TEXT)
    site = on(server, built, tmp_path / "options", setting)
    with site.transport:
        found = site.measure(SHORT, Point("decode", 4, 64), lambda n, interval: None)
        same = runner.measure(setting, SHORT, Point("decode", 4, 64))
    assert found.loaded
    assert same.loaded
    assert found.done
    assert same.done
    assert found.loaded.threads == 2
    assert found.loaded.memory == same.loaded.memory
    assert found.loaded.memory["kv_type"] == "q8_0"
    # the same tokens of the same text: the same activations
    assert found.done.rows == same.done.rows != []


def test_what_was_sent_is_not_sent_again_and_clean_removes_it(
    server: Sshd, built: KeptBuild, tiny_gguf: Path, tmp_path: Path
) -> None:
    from plm_edge.deploy.place import Place

    folder = tmp_path / "kept"
    site = on(server, built, folder, Setting(tiny_gguf))
    with site.transport:
        assert site.send(lambda what, done, total: None) == 0
        assert Place(site.transport, str(folder)).clean()
    assert not folder.exists()


def test_what_was_deployed_is_used_and_stays(
    server: Sshd, built: KeptBuild, tiny_gguf: Path, tmp_path: Path
) -> None:
    """The build and the model where deploy puts them: nothing is sent, nothing is taken back."""
    folder = tmp_path / "deployed"
    engine = folder / "engine" / built.manifest.key[:16]
    shutil.copytree(built.folder / "bin", engine / "bin")
    model = folder / "models" / sha256(tiny_gguf)[:16] / tiny_gguf.name
    model.parent.mkdir(parents=True)
    shutil.copy(tiny_gguf, model)
    site = on(server, built, folder, Setting(tiny_gguf))
    with site.transport:
        assert not (folder / "bench").exists()
        assert site.path("plm-edge-bench") == str(engine / "bin/plm-edge-bench")
        assert site.measure(SHORT, Point("decode", 4), lambda n, interval: None).samples
        site.take_back()
    # a text is sent all the same
    site = on(server, built, folder, Setting(tiny_gguf, text=TEXT * 20))
    with site.transport:
        assert site.measure(SHORT, Point("decode", 4), lambda n, interval: None).samples
        site.take_back()
    assert model.is_file()


def test_a_matrix_is_measured_there(
    server: Sshd, built: KeptBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each type goes there for its cells and is gone afterwards; divergence is computed here."""
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "matrix"
    there: list[list[str]] = []

    @contextmanager
    def at(setting: Setting) -> Iterator[remote.Device]:
        site = on(server, built, folder, setting)
        with site.transport:
            there.append([path.name for path in folder.rglob("*.gguf")])
            yield site
            site.take_back()

    wanted = matrix.Sweep(("q2_k", "q8_0"), (1,), ("f16",))
    found = matrix.measure(
        variants.origin(None), wanted, SHORT, Setting(Path()), lambda what: None, at
    )
    assert [len(names) for names in there] == [1, 1]
    assert not [*folder.rglob("*.gguf")]
    assert found.machine.device == "matrix"
    assert set(found.models) == {"q2_k", "q8_0"}
    assert [cell.quant for cell in found.cells] == ["q2_k", "q8_0"]
    assert found.cells[0].kl_nats > found.cells[1].kl_nats


def test_what_does_not_fit_is_refused_before_it_runs(
    server: Sshd, built: KeptBuild, tiny_gguf: Path, tmp_path: Path
) -> None:
    site = on(server, built, tmp_path / "small", Setting(tiny_gguf))
    with site.transport:
        site.facts = replace(site.facts, ram_available=1 << 20)
        with pytest.raises(PlmEdgeError, match="does not fit the memory") as caught:
            site.measure(SHORT, Point("decode", 4), lambda n, interval: None)
    assert caught.value.code == ExitCode.RESOURCES


def test_an_error_of_the_worker_comes_back(
    server: Sshd, built: KeptBuild, tiny_gguf: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_gguf.read_bytes()[:4096])
    site = on(server, built, tmp_path / "broken", Setting(broken, check_memory=False))
    with site.transport, pytest.raises(PlmEdgeError, match="cannot load") as caught:
        site.measure(SHORT, Point("decode", 4), lambda n, interval: None)
    assert caught.value.code == ExitCode.INPUT


def event(name: str, **members: Any) -> bytes:
    return json.dumps({"event": name, "now": 1.0, **members}).encode() + b"\n"


def test_layers_on_a_devices_gpu(
    server: Sshd, built: KeptBuild, tiny_gguf: Path, tmp_path: Path
) -> None:
    """The program there says which GPU there is, and what is free: here one that computes by the
    CPU."""
    with_gpu = KeptBuild(built.folder, replace(built.manifest, backend="vulkan"))
    site = on(server, with_gpu, tmp_path / "device", Setting(tiny_gguf, threads=1))
    try:
        site.extra = fake_gpu.preloaded()
        found = site.offload(512, 1)
        assert found is not None
        assert (found.layers, [str(gpu) for gpu in found.gpus]) == (
            7, ["Fake0 (a device for tests)"],
        )  # fmt: skip
        assert site.setting.gpu_layers == 7
        measured = site.measure(SHORT, Point("decode", 2), lambda n, interval: None)
        assert measured.loaded is not None
        assert measured.loaded.memory["splits"] == (2, 2)
        assert measured.loaded.memory["kv_by_buffer"].keys() == {"Fake"}
        site.extra = {}
        site.setting = replace(site.setting, gpu_layers=4)
        with pytest.raises(PlmEdgeError, match="there is no GPU"):
            site.offload(512, 1)
    finally:
        site.transport.close()


def test_events_may_come_in_pieces_and_from_another_thread() -> None:
    told: list[int] = []
    reader = PointReader(Point("prefill", 10), lambda n, interval: told.append(n))
    sample = event(
        "sample", seconds=0.5, tokens=10, start=0.2, end=0.9, interval=None, ttft_s=0.6, steps=[]
    )
    data = b"chatter of a login\n" + sample + event("done", reached=True, rows=[])
    pieces = [data[at : at + 7] for at in range(0, len(data), 7)]
    thread = threading.Thread(target=lambda: [*map(reader.out, pieces)])
    thread.start()
    thread.join()
    assert told == [1]
    assert [one.seconds for one in reader.found.samples] == [0.5]


def test_the_request_names_every_setting(tiny_gguf: Path) -> None:
    setting = Setting(tiny_gguf, threads=3, kv="q8_0", flash_attn="off", n_ubatch=64, gpu_layers=7)
    request = point_request(setting, SHORT, Point("decode", 4, 8, 2), "m", "t")
    wanted = {
        "kind": "decode", "threads": 3, "cache_k": "q8_0", "cache_v": "q8_0", "flash_attn": "off",
        "n_ubatch": 64, "gpu_layers": 7, "n_tokens": 4, "depth": 8, "n_seq": 2, "n_ctx": 512,
        "model": "m", "text": "t",
    }  # fmt: skip
    assert {name: request[name] for name in wanted} == wanted
