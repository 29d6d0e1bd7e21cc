"""How a deployed model runs: context and cache are chosen to fit the memory that the device has."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.deploy import running
from plm_edge.deploy.place import Place
from plm_edge.deploy.running import Deployment
from plm_edge.devices.transports.local import LocalTransport
from plm_edge.model import need
from plm_edge.model.offload import Parts
from tests.deploy.test_place import MIB, SIZES, a_record


@pytest.fixture
def bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that the device finds first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def settings(
    folder: Path, bin: Path, meminfo: str, n_ctx: int | None = None, *, force: bool = False
) -> tuple[int, str, str | None]:
    """Context, cache and the note for a device whose /proc/meminfo says this."""
    (bin / "cat").write_text(f"#!/bin/sh\necho '{meminfo}'\n")
    (bin / "cat").chmod(0o755)
    known = a_record()
    with LocalTransport(folder) as device:
        deployment = Deployment(Place(device, "plm-edge"), known, known.current, "pi")
        found, fit, _ = running.settings(deployment, n_ctx=n_ctx, force=force)
    return found.n_ctx, found.kv, fit.note if fit else None


def free(n_bytes: int) -> str:
    return f"MemAvailable: {n_bytes // 1024 + 1} kB"


def test_the_rule_is_that_of_here(tmp_path: Path, bin: Path) -> None:
    for n_ctx, kv in ((4096, "f16"), (4096, "q8_0"), (1024, "q4_0")):
        enough = free(need.of(SIZES, n_ctx, kv).total)
        found_ctx, found_kv, note = settings(tmp_path, bin, enough)
        assert (found_ctx, found_kv) == (n_ctx, kv)
        assert (note is None) == (kv == "f16")
        assert note is None or "this machine has" in note


def test_what_does_not_fit_is_refused_and_can_be_insisted_on(tmp_path: Path, bin: Path) -> None:
    with pytest.raises(PlmEdgeError, match="not enough memory") as caught:
        settings(tmp_path, bin, free(500 * MIB), 4096)
    assert caught.value.code is ExitCode.RESOURCES
    assert "MiB are available to this machine" in caught.value.why
    assert "--force" in caught.value.fix
    assert settings(tmp_path, bin, free(500 * MIB), 4096, force=True)[:2] == (4096, "f16")


def test_a_device_that_does_not_say_is_trusted(tmp_path: Path, bin: Path) -> None:
    assert settings(tmp_path, bin, "") == (4096, "f16", None)


LISTED = "  Vulkan0: a phone's GPU (8192 MiB, {} MiB free)"
PARTS = Parts((10 * MIB,) * 4, 10 * MIB, 0, (0,) * 4, 50 * MIB)


@pytest.mark.parametrize(
    ("free_mib", "deployed", "asked", "words"),
    [
        (8000, None, None, ("--device", "Vulkan0", "--n-gpu-layers", "5")),
        (8000, 2, None, ("--device", "Vulkan0", "--n-gpu-layers", "2")),
        (8000, 2, 3, ("--device", "Vulkan0", "--n-gpu-layers", "3")),
        (100, None, None, ("--device", "none")),
        (8000, None, 0, ("--device", "none")),
    ],
)
def test_layers_go_to_the_devices_gpu(
    tmp_path: Path,
    free_mib: int,
    deployed: int | None,
    asked: int | None,
    words: tuple[str, ...],
) -> None:
    """By what llama-server there says is free: as the deployment wanted it, or as the call does."""
    known = a_record()
    known.models["g"] = replace(known.models["g"], parts=PARTS)
    known = replace(known, engine=replace(known.engine, backend="vulkan"), gpu_layers=deployed)
    program = tmp_path / "plm-edge/bin/llama-server"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "{LISTED.format(free_mib)}"\n')
    program.chmod(0o755)
    with LocalTransport(tmp_path) as device:
        deployment = Deployment(Place(device, "plm-edge"), known, known.current, "pi")
        found, _, chosen = running.settings(deployment, n_ctx=512, force=True, gpu_layers=asked)
    assert found.more == words
    assert found.words()[-len(words) :] == list(words)
    assert (chosen is None) == (asked == 0)


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    known = a_record()
    with LocalTransport(tmp_path) as device:
        deployment = Deployment(Place(device, "plm-edge"), known, known.current, "pi")
        with pytest.raises(PlmEdgeError, match="there is no GPU") as caught:
            running.settings(deployment, gpu_layers=4)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "for the CPU alone" in caught.value.why
