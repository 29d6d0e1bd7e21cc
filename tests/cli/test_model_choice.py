"""Which model runs when none is given: the registry, then the bundled tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from plm_edge.base import folders
from plm_edge.store import bundled, registry
from testkit.cli import Cli

RUN = ("run", "-p", "hi", "-n", "3", "--temp", "0", "--threads", "1", "--json")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, shared by this process and the command's."""
    monkeypatch.setenv("PLM_EDGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "data"


def test_the_newest_that_is_still_there(cli: Cli, models: Path, data: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.gguf", tmp_path / "new.gguf"
    old.write_bytes((models / "abc.gguf").read_bytes())
    new.write_bytes((models / "xyz-end.gguf").read_bytes())
    registry.add_model(old, "somewhere", "f32")
    registry.add_model(new, "elsewhere", "f32")
    assert registry.newest() == new
    done = cli(*RUN[:-1])
    assert done.stdout == "xyz\n"
    assert str(new) in done.stderr
    assert "newest" in done.stderr
    assert json.loads(cli(*RUN).stdout)["model"]["origin"] == "newest"
    new.unlink()
    assert cli(*RUN[:-1]).stdout == "abc\n"
    registry.add_model(old, "somewhere", "f32")
    assert [entry.path for entry in registry.entries()] == [str(old)]


def test_a_damaged_registry_stops_nothing(data: Path, models: Path) -> None:
    target = registry.registry_path()
    target.parent.mkdir()
    for content in ("", "{", "[]", '{"schema": "plm-edge/registry/1", "models": [{"path": 1}]}'):
        target.write_text(content)
        assert registry.newest() is None
        registry.add_model(models / "abc.gguf", "x", "f32")
        assert registry.newest() == models / "abc.gguf"


def test_conversions_that_end_together_are_all_remembered(data: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.gguf" for i in range(12)]
    for path in paths:
        path.write_bytes(b"GGUF")
    program = "import sys, pathlib; from plm_edge.store.registry import add_model\n"
    program += "for p in sys.argv[1:]: add_model(pathlib.Path(p), 's', 'q')"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, *map(str, paths[i::3])]) for i in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert {entry.path for entry in registry.entries()} == set(map(str, paths))
    assert [p.name for p in data.iterdir() if p.name not in ("models.json", "models.lock")] == []


def test_a_failed_write_leaves_the_old_registry(
    data: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add_model(models / "abc.gguf", "x", "f32")
    before = registry.registry_path().read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        registry.add_model(models / "random.gguf", "x", "f32")
    assert registry.registry_path().read_bytes() == before
    assert sorted(p.name for p in data.iterdir()) == ["models.json", "models.lock"]


def test_the_bundled_model(cli: Cli, data: Path) -> None:
    done = cli("run", "-p", "import ", "-n", "8", "--temp", "0", "--threads", "1")
    assert "bundled tiny-plm" in done.stderr
    assert len(done.stdout) > 8
    (made,) = folders.cache().iterdir()
    assert made == bundled.cached_path()
    stamp = made.stat().st_mtime_ns
    again = json.loads(cli("run", "-p", "import ", "-n", "8", "--json", "--threads", "1").stdout)
    assert again["model"]["origin"] == "bundled"
    assert made.stat().st_mtime_ns == stamp  # converted once


def test_a_new_checkpoint_is_converted_anew(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bundled.cached_path()
    copy = tmp_path / "checkpoint"
    copy.mkdir()
    for file in bundled.checkpoint().iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(bundled, "_PLACES", (copy,))
    assert bundled.cached_path() == before
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert bundled.cached_path() != before


def test_a_cache_that_cannot_be_made(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cli.env["PLM_EDGE_CACHE_DIR"] = str(tmp_path / "file/cache")
    what, _, fix = cli.fails("run", "-p", "x", code=4)
    assert "file/cache cannot be used" in what
    assert "PLM_EDGE_CACHE_DIR" in fix


def test_threads_do_not_disturb_each_other(data: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.gguf" for i in range(8)]
    for path in paths:
        path.write_bytes(b"GGUF")
    workers = [threading.Thread(target=registry.add_model, args=(p, "s", "q")) for p in paths]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert {entry.path for entry in registry.entries()} == set(map(str, paths))
