"""The CPU's name and features: Linux's names, on Linux and on macOS, and the build's own list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plm_edge.building import isa_x86
from plm_edge.machine import cpu
from testkit.checkout import ROOT

PI = (
    "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp fphp\n\n"
    "processor\t: 1\nFeatures\t: fp asimd asimdhp fphp\n\n"
    "Revision\t: d04170\nModel\t\t: Raspberry Pi 5\n"
)
# /proc/cpuinfo of an AMD EPYC of the fourth generation (Zen 4), those of its flags that count here
ZEN4 = (
    "processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags\t\t: fpu sse4_2 avx f16c fma avx2 bmi2 "
    "avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16 avx512vbmi avx512_vbmi2 avx512_vnni "
    "hypervisor\n"
)


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(cpu, "_CPUINFO", path)
    return path


def test_avx512_vbmi_is_seen(cpuinfo: Path) -> None:
    cpuinfo.write_text(ZEN4)
    assert {"avx512vbmi", "avx512_vnni", "avx512_bf16"} <= set(cpu.features())
    assert cpu.name() == "AMD EPYC 9R14"
    assert cpu.is_virtual()


def test_only_what_all_cores_have(cpuinfo: Path) -> None:
    cpuinfo.write_text(PI)
    assert cpu.flags() == ("fp", "asimd", "asimdhp", "fphp")
    assert cpu.features() == ["asimd", "asimdhp", "fphp"]
    assert cpu.name() == "Raspberry Pi 5"
    assert not cpu.is_virtual()


def test_a_system_without_the_file(cpuinfo: Path) -> None:
    assert not cpuinfo.exists()
    assert cpu.flags() == ()
    assert cpu.name()


def test_macos() -> None:
    told = {"hw.optional.arm.FEAT_DotProd": "1", "hw.optional.arm.FEAT_FP16": "1"}
    told |= {"hw.optional.arm.FEAT_I8MM": "0"}
    assert cpu.darwin_features(told, arm=True) == ("fp", "asimd", "asimddp", "asimdhp", "fphp")
    intel = {"hw.optional.avx2_0": "1", "hw.optional.avx512f": "0"}
    assert cpu.darwin_features(intel, arm=False) == ("avx2",)


def test_the_build_records_what_is_looked_for() -> None:
    """CMakeLists.txt writes the features of a native build into the library, by the same names."""
    text = (ROOT / "CMakeLists.txt").read_text()
    found = re.search(r"foreach \(flag ([^)]*)\)", text)
    assert found is not None
    recorded = set(found[1].split())
    arm = set(cpu.ARM_FEATURES) - {
        "asimd",
        "fphp",
    }  # every aarch64 has one; asimdhp tells the other
    assert recorded == set(cpu.X86_FEATURES) | arm


def test_x86_names_are_those_of_disassembled_builds() -> None:
    assert set(cpu.X86_FEATURES) <= set(isa_x86._NAMES.values())


def test_macos_names_are_known_features() -> None:
    known = {*cpu.X86_FEATURES, *cpu.ARM_FEATURES, "atomics"}
    assert {name for names in cpu.DARWIN_NAMES.values() for name in names} <= known


def test_clocks_and_their_governor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_CPUFREQ", tmp_path)
    assert (cpu.governor(), cpu.max_mhz()) == (None, None)
    (tmp_path / "scaling_governor").write_text("performance\n")
    (tmp_path / "cpuinfo_max_freq").write_text("2400000\n")
    assert (cpu.governor(), cpu.max_mhz()) == ("performance", 2400.0)
