"""Which GPU `serve --gpu` finds, and what the server is told. The GPUs are a program's of the
tests: it lists them as llama-server does."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import accelerators, library
from plm_edge.machine import locking, memory
from plm_edge.machine.memory import Room
from plm_edge.model import gguf_file, need
from plm_edge.model.offload import Gpu
from plm_edge.serve import gpu
from plm_edge.serve.program import NAME, VARIABLE
from plm_edge.serve.settings import Settings
from plm_edge.serve.start import Wish, settings
from testkit import manifests
from testkit.cli import Cli
from tests.parity import fake_gpu
from tests.serve.conftest import Serve

LIST = """Available devices:
  Vulkan0: AMD Radeon (RADV NAVI31) (24560 MiB, 23100 MiB free)
  Vulkan1: llvmpipe (LLVM 15) (16000 MiB, 15000 MiB free)"""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """llama-server of a kept build with Vulkan; the one in use computes on the CPU alone."""
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    folder = manifests.kept(tmp_path, device="host", key="c" * 16, backend="vulkan") / "bin"
    (folder / "libggml-vulkan.so").touch()
    server = folder / NAME
    server.write_text(f"#!/bin/sh\n#tree={library.read_pin().tree}\necho '{LIST}'\n")
    server.chmod(0o755)
    return server


VULKAN = (
    Gpu("Vulkan0", "AMD Radeon (RADV NAVI31)", 23100 << 20, 24560 << 20),
    Gpu("Vulkan1", "llvmpipe (LLVM 15)", 15000 << 20, 16000 << 20),
)


def test_a_kept_build_with_a_gpu_is_found_when_one_is_wanted(kept: Path) -> None:
    assert gpu.find(accelerators.ALL) == gpu.Gpus(kept, VULKAN)
    assert gpu.find(None) == gpu.find(0) == gpu.Gpus()


def test_the_gpu_of_the_server_in_use_is_taken(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(kept))
    assert gpu.find(None) == gpu.Gpus(kept, VULKAN)
    assert gpu.find(0) == gpu.Gpus()


def test_a_backend_that_finds_no_gpu(kept: Path) -> None:
    kept.write_text(kept.read_text().split("echo")[0] + "echo 'Available devices:\n  (none)'\n")
    with pytest.raises(PlmEdgeError, match="there is no GPU") as caught:
        gpu.find(4)
    assert "finds no GPU" in caught.value.why
    assert caught.value.code is ExitCode.ENVIRONMENT


def test_layers_on_a_gpu_take_nothing_here(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = need.of(gguf_file.read(tiny_gguf), 2048, "f16")
    monkeypatch.setattr(memory, "available", lambda: Room(whole.of_share(0.6).total, "a test"))

    said: list[str] = []

    def words(layers: int | None, *gpus: str, free: int = 8 << 30) -> Settings:
        wish = Wish(tiny_gguf, "tiny", n_ctx=2048, kv="f16", port=0, gpu_layers=layers)
        found = [Gpu(name, "a GPU", free, 8 << 30) for name in gpus]
        return settings(wish, lambda _: None, found, said.append)

    assert words(None, "Vulkan0").more == ("--device", "Vulkan0", "--n-gpu-layers", "7")
    assert "all 6 layers and the output on Vulkan0 (a GPU)" in said[-1]
    assert words(6, "CUDA0", "CUDA1").more == ("--device", "CUDA0,CUDA1", "--n-gpu-layers", "6")
    monkeypatch.setattr(memory, "available", lambda: Room(1 << 40, "a test"))
    assert words(None, "CUDA0", free=1 << 28).more == ("--device", "none")
    assert "no layers on CUDA0" in said[-1]
    monkeypatch.setattr(memory, "available", lambda: Room(whole.of_share(0.6).total, "a test"))
    for layers, gpus in ((None, ()), (0, ("Vulkan0",)), (1, ("Vulkan0",))):
        with pytest.raises(PlmEdgeError, match="not enough memory") as caught:
            words(layers, *gpus)
        assert "--force" in caught.value.fix


def test_without_a_gpu(cli: Cli, tiny_gguf: Path, program: Path) -> None:
    if accelerators.has_backend(program.parent):
        pytest.skip("this engine was built for a GPU")
    what, why, fix = cli.fails("serve", tiny_gguf, "--gpu", "all", "--port", "0", code=4)
    assert "no GPU" in what
    assert "for the CPU alone" in why
    assert "plm-edge engine build --device host" in fix


def test_layers_go_to_a_gpu(serve: Serve, cli: Cli, program: Path, tmp_path: Path) -> None:
    """A real server, with a GPU that computes by the CPU: it is told the layers that fit."""
    folder = fake_gpu.engine_with_backend(tmp_path / "engine")
    (folder / program.name).symlink_to(program)
    cli.env |= {VARIABLE: str(folder / program.name), "LD_LIBRARY_PATH": str(folder)}
    body = {"prompt": "def add(", "n_predict": 8, "temperature": 0}
    texts = []
    cli.env |= fake_gpu.preloaded()
    for layers, words in (
        ("off", "--device none"),
        ("auto", "--device Fake0 --n-gpu-layers 7"),
        ("4", "--device Fake0 --n-gpu-layers 4"),
    ):
        server = serve("--ctx", "512", "--gpu", layers)
        assert words in " ".join(psutil.Process(server.about["pid"]).cmdline())
        texts.append(server.http("/completion", body).json["content"])
    assert texts[0] == texts[1] == texts[2]


def test_weights_are_locked(serve: Serve) -> None:
    server = serve("--mlock", "--ctx", "256", "--gpu", "off")
    status = Path(f"/proc/{server.about['pid']}/status").read_text()
    if locking.limit() is None:
        assert "VmLck:\t       0 kB" not in status
    assert server.http("/completion", {"prompt": "x", "n_predict": 1}).status == 200


def test_what_may_not_be_locked_is_refused(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "limit", lambda: 1 << 20)
    with pytest.raises(PlmEdgeError, match="cannot be locked") as caught:
        settings(Wish(tiny_gguf, "tiny", port=0, mlock=True), lambda _: None)
    assert "ulimit -l" in caught.value.fix


@pytest.mark.parametrize(
    "more",
    [("--mlock",), ("--rpc", "192.0.2.1"), ("--prompt-cache", "1GB")],
)
def test_devices_compute_by_themselves(cli: Cli, more: tuple[str, ...]) -> None:
    what, _, fix = cli.fails("serve", "--device", "rpi5@192.0.2.1", *more, code=2)
    assert "for this machine" in what
    assert "leave --device out" in fix
