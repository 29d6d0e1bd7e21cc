"""What each profile asks to be built, and the toolchain file that says it to cmake."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.building import toolchain
from plm_edge.building.march import gcc_march
from plm_edge.building.request import target_for
from plm_edge.building.target import Target, machine, require_buildable, target_of
from plm_edge.devices.detect import profile_by_name
from plm_edge.devices.profiles.profile import find
from testkit import needs

PHONES = ("android-arm64", "oneplus12", "pixel8")
BOARDS = ("rpi4", "rpi5")
LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
CUDA = ("a100", "h200", "jetson-agx-orin", "jetson-orin-nano", "rtx3060", "rtx4090")


def target(name: str, compiler: str | None = None, *, gpu: bool | str = True) -> Target:
    return target_of(profile_by_name(name), compiler, gpu=gpu)


def settings(made: Target) -> dict[str, str]:
    return dict(made.settings)


@pytest.mark.parametrize("name", PHONES + BOARDS + LEVELS)
def test_static_by_zig(name: str) -> None:
    made = target(name)
    found = settings(made)
    assert (made.compiler, made.linkage, made.kernels) == ("zig", "static", "fixed")
    assert found["BUILD_SHARED_LIBS"] == found["PLM_EDGE_NATIVE"] == "OFF"
    assert "GGML_CPU_ARM_ARCH" not in found  # zig refuses the -march that it makes
    assert made.triple.endswith("musl") == (name in PHONES)


@pytest.mark.parametrize("name", CUDA)
def test_cuda_by_the_systems_compiler(name: str) -> None:
    made = target(name)
    found = settings(made)
    assert (made.compiler, made.linkage, made.backend) == ("gcc", "shared", "cuda")
    assert found["GGML_CUDA"] == "ON"
    assert found["CMAKE_CUDA_ARCHITECTURES"].isdigit()
    if made.arch == "x86_64":
        assert made.kernels == "chosen"
        assert found["GGML_BACKEND_DL"] == found["GGML_CPU_ALL_VARIANTS"] == "ON"
    else:
        assert found["GGML_CPU_ARM_ARCH"].startswith("armv8.2-a+dotprod+fp16")


def test_a_backend_by_its_name() -> None:
    made = target("host", gpu="vulkan")
    assert (made.backend, dict(made.settings)["GGML_VULKAN"]) == ("vulkan", "ON")
    assert target("rtx4090", gpu="vulkan").backend == "vulkan"
    assert "GGML_CUDA" not in dict(target("rtx4090", gpu="vulkan").settings)
    with pytest.raises(PlmEdgeError, match="cannot have a GPU's backend"):
        target("rpi5", gpu="vulkan")
    with pytest.raises(PlmEdgeError, match="no GPU backend 'rocm'"):
        target_for("host", gpu="rocm")


def test_without_its_gpu() -> None:
    made = target("rtx4090", gpu=False)
    assert (made.compiler, made.linkage, made.backend) == ("zig", "static", "")
    assert not [name for name in settings(made) if "CUDA" in name]


def test_host() -> None:
    made = target("host", gpu=False)
    assert (made.linkage, made.kernels, made.arch) == ("shared", "native", machine())
    assert settings(made)["PLM_EDGE_NATIVE"] == "ON"


@pytest.mark.parametrize("name", LEVELS)
def test_a_family_by_gcc_chooses_its_kernels_at_run_time(name: str) -> None:
    made = target(name, "gcc")
    assert (made.linkage, made.kernels) == ("shared", "chosen")
    assert settings(made)["GGML_CPU_ALL_VARIANTS"] == "ON"
    assert "GGML_AVX2" not in settings(made)


def test_x86_levels_say_each_switch() -> None:
    on = {name: {key for key, value in target(name).settings if value == "ON"} for name in LEVELS}
    assert on["x86-64-v2"] == {"GGML_SSE42"}
    assert on["x86-64-v3"] - on["x86-64-v2"] == {
        "GGML_AVX", "GGML_AVX2", "GGML_BMI2", "GGML_F16C", "GGML_FMA",
    }  # fmt: skip
    assert on["x86-64-v4"] - on["x86-64-v3"] == {"GGML_AVX512"}


def test_gcc_for_boards_is_told_what_they_have() -> None:
    assert settings(target("rpi5", "gcc"))["GGML_CPU_ARM_ARCH"] == "armv8.2-a+dotprod+fp16"
    assert settings(target("rpi4", "gcc"))["GGML_CPU_ARM_ARCH"] == "armv8-a+crc"
    assert gcc_march("x86_64", set(find("x86-64-v3").features)) == "x86-64-v3"
    assert gcc_march("aarch64", {"asimd"}) == "armv8-a"


def test_zig_and_shared_libraries() -> None:
    with pytest.raises(PlmEdgeError, match="a C\\+\\+ library of its own"):
        target("rtx4090", "zig")


def test_a_macs_build_elsewhere() -> None:
    made = target("macbook-air-m3")
    with pytest.raises(PlmEdgeError, match="on the Mac itself"):
        require_buildable(made)
    # Apple's compiler takes the first of its chips for granted, which has no i8mm
    assert "+i8mm" in settings(made)["GGML_CPU_ARM_ARCH"]


@pytest.mark.parametrize("name", PHONES + BOARDS + LEVELS)
def test_toolchain_of_zig(name: str, tmp_path: Path) -> None:
    made = target(name)
    file = toolchain.write(made, tmp_path)
    text = file.read_text()
    assert f"set(CMAKE_SYSTEM_PROCESSOR {made.arch})" in text
    assert "set(CMAKE_SYSTEM_NAME Linux)" in text
    for role in ("cc", "c++", "ar", "ranlib"):
        assert f'"{tmp_path / role}"' in text
    assert f"-target {made.triple} -g0" in (tmp_path / "c++").read_text()


def test_a_second_board_needs_its_kernels_alone(tmp_path: Path) -> None:
    """By zig all else has the same commands, so that ccache finds it."""
    first, second = (toolchain.commands(target(name)) for name in ("rpi4", "rpi5"))
    assert first == second
    assert target("rpi4").cpu != target("rpi5").cpu


def test_toolchain_of_gcc(tmp_path: Path) -> None:
    needs.program("aarch64-linux-gnu-gcc")
    toolchain.write(target("rpi5", "gcc"), tmp_path)
    assert "-static" in (tmp_path / toolchain.FILE).read_text()
    source = tmp_path / "main.c"
    source.write_text("int main(void) { return 0; }\n")
    # this machine's CPU must not be the one that a Pi's program is for
    command = [tmp_path / "cc", "-march=native", "-c", source, "-o", tmp_path / "main.o"]
    subprocess.run([str(part) for part in command], check=True)
    assert "-march=armv8.2-a+dotprod+fp16" in (tmp_path / "cc").read_text()


def test_toolchain_written_again_is_the_same_file(tmp_path: Path) -> None:
    made = target("rpi5")
    toolchain.write(made, tmp_path)
    before = (tmp_path / "cc").stat().st_mtime_ns
    toolchain.write(made, tmp_path)
    assert (tmp_path / "cc").stat().st_mtime_ns == before  # else everything is compiled again
