"""A repository of the hub, from a server of the test's own that breaks off and spoils files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.convert import convert, default_out
from testkit.checkpoints import write_checkpoint
from testkit.hub_server import COMMIT, NAME, Hub, serve
from tests.converters.conftest import said
from tests.converters.gguf_content import assert_same, read

REPOSITORY = Path(NAME)
ONLY_LOCAL = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = write_checkpoint(tmp_path / "repository", shards=3)
    for name in ("optimizer.pt", "training_args.bin", "tf_model.h5"):
        (folder / name).write_bytes(b"nobody needs this")
    cache = tmp_path / "cache"
    with serve(folder) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.chdir(tmp_path)
        yield running


def test_same_as_from_the_folder(server: Hub, tmp_path: Path) -> None:
    report = convert(REPOSITORY, layout="stock")
    assert report.out == Path("PLM-8M-Instruct-q4_k.gguf") == default_out(REPOSITORY, "q4_k")
    folder = server.folder.rename(tmp_path / "PLM-8M-Instruct")
    convert(folder, layout="stock", out=tmp_path / "local.gguf")
    content = read(report.out)
    assert_same(content, read(tmp_path / "local.gguf"))
    assert content.value("plm_edge.source") == NAME
    assert content.value("plm_edge.source.revision") == COMMIT
    assert "plm_edge.source.sha256" not in content.keys


def test_only_what_is_needed_and_once(server: Hub, tmp_path: Path) -> None:
    convert(REPOSITORY, revision="v1", out=tmp_path / "m.gguf")
    fetched = {name for name, _ in server.served}
    assert "model-00002-of-00003.safetensors" in fetched
    assert fetched == {path.name for path in server.folder.iterdir()} - {
        *("optimizer.pt", "training_args.bin", "tf_model.h5")
    }
    server.served.clear()
    convert(REPOSITORY, revision=COMMIT, out=tmp_path / "m.gguf")
    assert server.served == []


def test_connection_that_breaks(server: Hub, tmp_path: Path) -> None:
    """Cut in the middle of files, several times; it goes on where it was."""
    server.cuts = [20_000, 1, 30_000, 0, 10_000]
    sizes = [path.stat().st_size for path in server.folder.glob("*.safetensors")]
    assert min(sizes) > 60_000
    convert(REPOSITORY, out=tmp_path / "m.gguf")
    again = [first for name, first in server.served if first > 0]
    assert server.cuts == []
    assert again[:3] == [20_000, 20_001, 50_001]
    convert(server.folder, out=tmp_path / "local.gguf")
    found, expected = read(tmp_path / "m.gguf"), read(tmp_path / "local.gguf")
    assert {n: t.identity for n, t in found.tensors.items()} == {
        n: t.identity for n, t in expected.tensors.items()
    }


def test_next_run_goes_on_after_giving_up(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of its own that finds no end of breaks; the next one does not begin anew."""
    program = "import sys; from plm_edge.cli import main; sys.exit(main())"
    environment = {
        **os.environ,
        **ONLY_LOCAL,
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "home"),
        "PLM_EDGE_DATA_DIR": str(tmp_path / "data"),
    }
    patched = f"import plm_edge.hub.download as d; d.PAUSE = 0.01; {program}"
    server.cuts = [20_000] + [0] * 1000
    command = ["convert", NAME, "--out", str(tmp_path / "m.gguf")]

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *command], env=environment, capture_output=True, text=True
        )

    failed = run(patched)
    assert failed.returncode == ExitCode.INPUT, failed.stderr
    assert "goes on where it stopped" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "m.gguf").exists()
    server.cuts = []
    server.served.clear()
    done = run(program)
    assert done.returncode == 0, done.stderr
    assert server.served[0] == ("model-00001-of-00003.safetensors", 20_000)
    assert NAME in (tmp_path / "data").joinpath("models.json").read_text()


def test_spoiled_files_are_found_and_removed(server: Hub, tmp_path: Path) -> None:
    for name in ("config.json", "model-00002-of-00003.safetensors"):
        server.spoiled = {name}
        with pytest.raises(PlmEdgeError) as error:
            convert(REPOSITORY, out=tmp_path / "m.gguf")
        assert f"{name} is not the file that the hub has" in said(error)
        assert not (tmp_path / "m.gguf").exists()
        server.spoiled = set()
    convert(REPOSITORY, out=tmp_path / "m.gguf")


def test_what_cannot_be_had(server: Hub, tmp_path: Path) -> None:
    cases: list[tuple[Path, str | None, str]] = [
        (Path("PLM-Team/nothing"), None, "no such repository"),
        (REPOSITORY, "v99", "cannot get"),
        (tmp_path, "main", "--revision main has nothing to do"),
    ]
    for source, revision, expected in cases:
        with pytest.raises(PlmEdgeError) as error:
            convert(source, revision=revision, out=tmp_path / "m.gguf")
        assert expected in said(error)
    (server.folder / "config.json").unlink()
    with pytest.raises(PlmEdgeError, match=r"has no config\.json"):
        convert(REPOSITORY, out=tmp_path / "m.gguf")


def test_another_model_is_told_before_its_weights_come(server: Hub, tmp_path: Path) -> None:
    path = server.folder / "config.json"
    path.write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    with pytest.raises(PlmEdgeError, match="LlamaForCausalLM"):
        convert(REPOSITORY, out=tmp_path / "m.gguf")
    assert not any(name.endswith("safetensors") for name, _ in server.served)


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(PlmEdgeError) as error:
        convert(REPOSITORY, out=tmp_path / "m.gguf")
    assert "the connection failed 5 times" in said(error)


def test_progress_of_the_download(server: Hub, tmp_path: Path) -> None:
    class Counter:
        total = done = 0

        def begin(self, total: int) -> None:
            self.total = total

        def advance(self, count: int) -> None:
            self.done += count

    counter = Counter()
    convert(REPOSITORY, out=tmp_path / "m.gguf", download=counter)
    weights = sum(path.stat().st_size for path in server.folder.glob("*.safetensors"))
    assert (counter.done, counter.total) == (weights, weights)


def test_full_disk_is_told_beforehand(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1, 1, 1000))
    with pytest.raises(PlmEdgeError) as error:
        convert(REPOSITORY, out=tmp_path / "m.gguf")
    assert "not enough disk space for" in said(error)
    assert error.value.code == ExitCode.RESOURCES
