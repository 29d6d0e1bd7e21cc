"""Facts and the profiles made of them, from what real machines reported (sources beside each)."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.devices import cores as cores_of
from plm_edge.devices import detect, facts
from plm_edge.devices.facts import Gpu, Group
from plm_edge.devices.profiles import profile

A76 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop"
    " asimddp"
)
A520 = A76 + " i8mm bf16"


def arm(number: int, part: str, features: str) -> str:
    return (
        f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\n"
        f"CPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
    )


def cores(clocks: list[int]) -> str:
    return "".join(f"{n} max={clock} group={n}\n" for n, clock in enumerate(clocks))


# /proc/cpuinfo: https://github.com/hrw/arm-socs-table/issues/96
PI5 = f"""
== system
Linux
aarch64
6.6.31+rpt-rpi-2712

== libc
glibc 2.36

== page
16384

== model
Raspberry Pi 5 Model B Rev 1.0
== cpuinfo
{"".join(arm(n, "0xd0b", A76) for n in range(4))}Hardware\t: BCM2835
Revision\t: d04170
Model\t\t: Raspberry Pi 5 Model B Rev 1.0

== meminfo
MemTotal:        8245696 kB
MemFree:         6000000 kB
MemAvailable:    7000000 kB

== cores
{cores([2400000] * 4)}
== nvidia

== props

== darwin

== meters
/sys/class/thermal/thermal_zone0/temp
/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq
/usr/bin/vcgencmd

== disk
/dev/mmcblk0p2  60000000 20000000  37000000  36% /
"""

# https://github.com/hrw/arm-socs-table/issues/98, with the clocks of Qualcomm's announcement
PARTS = ["0xd80"] * 2 + ["0xd81"] * 5 + ["0xd82"]
PHONE = f"""
== system
Linux
aarch64
6.1.57-android14

== cpuinfo
{"".join(arm(n, part, A520) for n, part in enumerate(PARTS))}
== meminfo
MemTotal:       11500000 kB

== cores
{cores([2265600] * 2 + [3148800] * 3 + [2956800] * 2 + [3302400])}
== props
ro.product.model=CPH2581
ro.soc.model=SM8650
ro.build.version.release=14

== meters
/sys/class/power_supply/battery/current_now

== disk
/dev/block/dm-50 230000000 50000000 180000000 22% /data
"""

MAC = """
== system
Darwin
arm64
23.4.0

== darwin
machdep.cpu.brand_string: Apple M3
hw.memsize: 17179869184
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_FP16: 1
hw.optional.arm.FEAT_I8MM: 1
hw.perflevel0.physicalcpu: 4
hw.perflevel1.physicalcpu: 4

== disk
/dev/disk3s5  482797652 100000000  350000000    23%    /System/Volumes/Data
"""

V3 = "fpu " + " ".join([*cores_of.X86_LEVELS["v2"], *cores_of.X86_LEVELS["v3"]])
PC = f"""
== system
Linux
x86_64
6.8.0

== libc
glibc 2.39

== cpuinfo
processor	: 0
model name	: AMD Ryzen 9 7950X
flags		: {V3}

processor	: 1
model name	: AMD Ryzen 9 7950X
flags		: {V3}

== cores
0 max=5881000 group=0-1
1 max=5881000 group=0-1

== nvidia
NVIDIA GeForce RTX 4090, 24564, 8.9
"""


def test_a_raspberry_pi() -> None:
    found = facts.parse(PI5)
    assert found.model == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.cpu == "Cortex-A76"
    assert found.groups == (Group("Cortex-A76", 4, 2.4),)
    assert found.ram == 8245696 * 1024
    assert found.disk_free == 37000000 * 1024
    assert found.page == 16384
    made = detect.profile_of(found, "kitchen", "ssh", "pi@kitchen")
    profile.check(made.data, Path("kitchen.toml"))
    known = profile.find("rpi5")
    assert set(made.features) == set(known.features)
    assert made.section("build")["triple"] == known.section("build")["triple"]
    assert made.section("build")["variants"] == known.section("build")["variants"]
    assert made.emulator == known.emulator
    assert made.meters["throttling"].read == known.meters["throttling"].read
    assert made.section("defaults")["threads"] == 4


def test_a_phone() -> None:
    found = facts.parse(PHONE)
    assert [(group.core, group.count) for group in found.groups] == [
        ("Cortex-X4", 1),
        ("Cortex-A720", 3),
        ("Cortex-A720", 2),
        ("Cortex-A520", 2),
    ]
    assert found.libc == "bionic"
    made = detect.profile_of(found, "phone", "adb", "A1B2")
    profile.check(made.data, Path("phone.toml"))
    assert made.section("build")["triple"] == "aarch64-linux-musl"
    assert made.section("build")["cpu"] == "generic+v8_2a+fullfp16+dotprod+i8mm"
    assert made.section("build")["variants"][-1] == "android_armv8.6_1"
    assert made.section("defaults")["threads"] == 6
    assert made.meters["energy"].unit == "µA and µV"


def test_a_mac() -> None:
    found = facts.parse(MAC)
    assert found.machine == "aarch64"
    assert found.ram == 16 * 2**30
    assert {"asimddp", "asimdhp", "fphp", "i8mm"} <= set(found.features)
    made = detect.profile_of(found, "air", "ssh", "air")
    profile.check(made.data, Path("air.toml"))
    assert made.section("build")["triple"] == "aarch64-macos"
    assert made.section("gpu")["backend"] == "metal"
    assert made.section("defaults")["threads"] == 4


def test_a_pc_with_a_gpu() -> None:
    found = facts.parse(PC)
    assert found.groups == (Group("AMD Ryzen 9 7950X", 1, 5.881),)
    assert found.gpus == (Gpu("NVIDIA GeForce RTX 4090", 24564 * 2**20, "8.9"),)
    made = detect.profile_of(found, "pc", "ssh", "pc")
    profile.check(made.data, Path("pc.toml"))
    assert made.section("cpu")["isa"] == "x86-64-v3"
    assert made.section("gpu")["arch"] == "89"
    assert made.emulator == ("qemu-x86_64", "Haswell")


def test_a_machine_without_kernels_of_ours() -> None:
    found = facts.parse(PI5.replace("aarch64", "armv7l"))
    with pytest.raises(PlmEdgeError) as caught:
        detect.profile_of(found, "old", "ssh", "old")
    assert "armv7l" in caught.value.why
    assert "64-bit" in caught.value.fix


def test_a_machine_that_says_nothing() -> None:
    found = facts.parse("")
    assert (found.system, found.ram, found.groups, found.features) == ("", None, (), ())


def test_this_machine() -> None:
    made = detect.profile_by_name("host")
    profile.check(made.data, Path("host.toml"))
    assert made.name == "host"
    assert made.cores >= 1
    assert made.ram_bytes()
