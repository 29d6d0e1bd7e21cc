"""What `run` says of memory and GPUs, as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from plm_edge.base.errors import ExitCode
from plm_edge.building import gpu_engine
from plm_edge.cli import main
from plm_edge.engine import accelerators, library
from plm_edge.machine import locking
from plm_edge.model import gguf_file
from testkit import manifests
from testkit.cli import Cli


def test_stats_show_what_is_needed(cli: Cli, tiny_gguf: Path) -> None:
    done = cli("run", tiny_gguf, "--prompt", "x", "-n", "1", "--stats")
    for word in ("weights", "KV cache", "compute", "needed", "available"):
        assert word in done.stderr
    memory = json.loads(cli("run", tiny_gguf, "--prompt", "x", "-n", "1", "--json").stdout)[
        "memory"
    ]
    parts = ("weights", "kv", "compute_estimate", "process_estimate")
    assert memory["needed"] == sum(memory[name] for name in parts)
    assert memory["needed"] < memory["available"]
    assert (memory["n_ctx"], memory["kv_type"]) == (2048, "f16")


@pytest.mark.skipif(sys.platform != "linux", reason="needs ulimit -d")
def test_short_memory_gives_a_smaller_context_and_says_so(cli: Cli, tiny_gguf: Path) -> None:
    """Under a real limit: what is chosen is used, and one word says what was given up."""
    asked = [*cli.command, "run", str(tiny_gguf), "--prompt", "x", "-n", "1", "--json"]
    free = json.loads(subprocess.run(asked, env=cli.env, capture_output=True).stdout)["memory"]
    program = "import json\nfrom pathlib import Path\nfrom plm_edge.engine.session import Session\n"
    program += "from plm_edge.machine import memory\nfrom plm_edge.engine.options import Options\n"
    program += f"room = memory.Room({free['needed'] - 1}, 'this machine')\n"
    program += "memory.available = lambda: room\n"
    program += f"s = Session.open(Path({str(tiny_gguf)!r}), Options(threads=1))\n"
    program += "print(json.dumps([s.n_ctx, s.kv.type, s.kv_type, s.notes]))"
    done = subprocess.run([sys.executable, "-c", program], env=cli.env, capture_output=True)
    n_ctx, there, kv, notes = json.loads(done.stdout)
    assert kv == there == "q8_0"
    assert n_ctx == 2048
    assert "memory is short: a q8_0 cache" in notes[0]
    assert "--kv f16 --force" in notes[0]


def test_without_a_gpu(cli: Cli, tiny_gguf: Path) -> None:
    if accelerators.has_backend(library.find()):
        pytest.skip("this engine was built for a GPU")
    what, why, fix = cli.fails(
        "run", tiny_gguf, "--prompt", "x", "--gpu", "all", code=ExitCode.ENVIRONMENT
    )
    assert "no GPU" in what
    assert "for the CPU alone" in why
    assert "plm-edge engine build --device host" in fix
    cli("run", tiny_gguf, "--prompt", "x", "-n", "1", "-ngl", "0")
    cli("run", tiny_gguf, "--prompt", "x", "-n", "1", "--gpu", "off")
    assert (
        "auto, off, all"
        in cli.fails("run", tiny_gguf, "--prompt", "x", "--gpu", "some", code=ExitCode.USAGE)[1]
    )


def test_a_kept_build_with_a_gpu_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLM_EDGE_CACHE_DIR", str(tmp_path))
    manifests.kept(tmp_path, device="host", key="a" * 16)
    assert gpu_engine.find() is None
    manifests.kept(tmp_path, device="host", key="b" * 16, backend="vulkan", tree="another")
    assert gpu_engine.find() is None
    folder = manifests.kept(tmp_path, device="host", key="c" * 16, backend="vulkan")
    assert gpu_engine.find() == folder / "bin"


def test_mlock_that_is_not_allowed(cli: Cli, tiny_gguf: Path) -> None:
    """As a person without rights: the capability that root has is dropped."""
    drop = (
        "import ctypes, os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))\n"
        "ctypes.CDLL(None).prctl(24, 14, 0, 0, 0)\n"  # PR_CAPBSET_DROP, CAP_IPC_LOCK
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    command = ["run", str(tiny_gguf), "--prompt", "x", "-n", "1", "--mlock"]
    done = subprocess.run(
        [sys.executable, "-c", drop, *cli.command, *command], env=cli.env, capture_output=True
    )
    assert done.returncode == ExitCode.RESOURCES, done.stderr
    assert b"cannot be locked" in done.stderr
    assert b"ulimit -l" in done.stderr


def test_mlock_locks(cli: Cli, tiny_gguf: Path) -> None:
    if locking.limit() is not None:
        pytest.skip("needs the right to lock memory: ulimit -l unlimited")
    program = (
        "import sys\nfrom pathlib import Path\nfrom plm_edge.engine.options import Options\n"
        "from plm_edge.engine.session import Session\n"
        "with Session.open(Path(sys.argv[1]), Options(mlock=True, threads=1)):\n"
        "    print([x for x in open('/proc/self/status') if x.startswith('VmLck')][0].split()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tiny_gguf], env=cli.env, capture_output=True, check=True
    )
    assert int(done.stdout) * 1024 > gguf_file.read(tiny_gguf).tensor_bytes * 0.9


def test_a_plugin_goes_to_no_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "plugin.gguf"
    writer = gguf.GGUFWriter(plugin, "plm")
    writer.add_string("adapter.type", "spa")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert main(["deploy", str(plugin), "--device", "pi", "--gpu", "5"]) == ExitCode.USAGE
    assert "and --gpu" in capsys.readouterr().err
