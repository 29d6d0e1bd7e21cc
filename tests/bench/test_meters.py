"""Every meter against a tree of /sys and commands as its device shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from plm_edge.bench import meters
from plm_edge.bench.analyse import energy
from plm_edge.bench.meters import battery, boards, counters, nvidia, thermal
from plm_edge.bench.meters.host import LocalHost, RemoteHost
from plm_edge.bench.meters.meter import UNITS, Meter
from plm_edge.bench.meters.recorder import Recorder, of_window
from plm_edge.devices.transports.local import LocalTransport
from testkit import nvml as simulated


class Device(LocalHost):
    """A simulated machine: files below a folder, and what commands print."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._top = root
        self.here = False  # no library of this machine
        self.commands: dict[str, str] = {}

    def write(self, path: str, text: object) -> None:
        place = self._top / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")

    def run(self, *command: str) -> str | None:
        return self.commands.get(" ".join(command))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


RAPL = "/sys/class/powercap"
HWMON = "/sys/class/hwmon"


def test_an_empty_machine_measures_nothing_and_says_why(device: Device) -> None:
    found = meters.find(device)
    assert found.meters == []
    assert energy.main_meters(found) == []
    assert {what for what, _ in found.lacking} >= {
        "RAPL", "hwmon", "NVML", "Raspberry Pi 5 PMIC", "battery", "Jetson INA",
    }  # fmt: skip


def test_this_very_machine() -> None:
    """Whatever it has, RAPL and hwmon among them, reads a sane number; what it lacks says why."""
    found = meters.find(LocalHost())
    lacking = {what for what, _ in found.lacking}
    for family, name in ((counters.Rapl, "RAPL"), (counters.HwmonPower, "hwmon")):
        assert (name in lacking) != any(isinstance(meter, family) for meter in found.meters)
    for meter in found.meters:
        first, second = meter.read(), meter.read()
        assert first is not None
        assert second is not None
        if meter.quantity == "energy":
            assert 0 <= first <= second
        elif meter.quantity == "power":
            assert 0 <= first < 10_000
        elif meter.quantity == "temperature":
            assert -50 < first < 150


def rapl(device: Device) -> None:
    for zone, name in (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:1", "package-1"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:2", "psys"),
    ):
        device.write(f"{RAPL}/{zone}/name", name)
        device.write(f"{RAPL}/{zone}/energy_uj", 5_000_000)
        device.write(f"{RAPL}/{zone}/max_energy_range_uj", 10_000_000)


def test_rapl_counts_packages_alone(device: Device) -> None:
    rapl(device)
    found = counters.Rapl.find(device).meters
    assert [meter.name for meter in found] == ["package-0", "package-1"]
    assert [meter.read() for meter in found] == [5.0, 5.0]


def test_rapl_wraps_around(device: Device) -> None:
    rapl(device)
    meter = counters.Rapl.find(device).meters[0]
    readings = []
    for value in (5_000_000, 9_000_000, 1_000_000, 500_000):
        device.write(f"{RAPL}/intel-rapl:0/energy_uj", value)
        readings.append(meter.read())
    assert readings == [5.0, 9.0, 11.0, 20.5]


def test_rapl_for_root_alone(device: Device) -> None:
    rapl(device)
    for number in (0, 1):
        (device._top / f"sys/class/powercap/intel-rapl:{number}/energy_uj").unlink()
    found = counters.Rapl.find(device)
    assert found.meters == []
    assert "root" in found.lacking[0][1]


def test_hwmon_power(device: Device) -> None:
    device.write(f"{HWMON}/hwmon0/name", "amdgpu")
    device.write(f"{HWMON}/hwmon0/power1_average", 12_500_000)
    device.write(f"{HWMON}/hwmon0/power1_label", "PPT")
    (meter,) = counters.HwmonPower.find(device).meters
    assert (meter.name, meter.read(), meter.unit) == ("amdgpu PPT", 12.5, "W")


# As a Raspberry Pi 5 prints it, some rails left out; EXT5V and BATT have no current.
PMIC = """     3V7_WL_SW_A current(0)=0.10000000A
       3V3_SYS_A current(1)=0.20000000A
        DDR_VDD2_A current(3)=0.30000000A
        DDR_VDDQ_A current(4)=0.10000000A
        VDD_CORE_A current(7)=2.00000000A
     3V7_WL_SW_V volt(8)=3.70000000V
       3V3_SYS_V volt(9)=3.30000000V
        DDR_VDD2_V volt(11)=1.10000000V
        DDR_VDDQ_V volt(12)=0.60000000V
        VDD_CORE_V volt(15)=0.75000000V
           EXT5V_V volt(24)=5.14950000V
            BATT_V volt(25)=0.00195360V
"""


def test_pi5_pmic_sums_the_rails(device: Device) -> None:
    device.commands["vcgencmd pmic_read_adc"] = PMIC
    whole, cpu, dram = boards.Pi5Pmic.find(device).meters
    assert whole.read() == pytest.approx(0.1 * 3.7 + 0.2 * 3.3 + 2 * 0.75 + 0.3 * 1.1 + 0.1 * 0.6)
    assert (cpu.name, dram.name) == ("pmic-cpu", "pmic-dram")
    assert cpu.read() == pytest.approx(2 * 0.75)
    assert dram.read() == pytest.approx(0.3 * 1.1 + 0.1 * 0.6)
    assert dram.covers == "the rails DDR_VDD2 + DDR_VDDQ"
    device.commands["vcgencmd pmic_read_adc"] = PMIC.replace("DDR_VDDQ", "DDR_OTHER")
    assert [meter.name for meter in boards.Pi5Pmic.find(device).meters] == ["pmic", "pmic-cpu"]


def test_a_pi4_has_no_pmic(device: Device) -> None:
    device.commands["vcgencmd pmic_read_adc"] = 'error=1 error_msg="Command not registered"'
    assert boards.Pi5Pmic.find(device).meters == []


def jetson(device: Device, labels: list[str]) -> None:
    device.write(f"{HWMON}/hwmon3/name", "ina3221")
    for number, label in enumerate(labels, 1):
        device.write(f"{HWMON}/hwmon3/in{number}_label", label)
        device.write(f"{HWMON}/hwmon3/in{number}_input", 5000)
        device.write(f"{HWMON}/hwmon3/curr{number}_input", 1000 * number)


def test_jetson_takes_the_boards_input_where_it_is_measured(device: Device) -> None:
    jetson(device, ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC", "sum of shunt voltages"])
    (meter,) = boards.JetsonRails.find(device).meters
    assert meter.read() == pytest.approx(5.0)
    assert meter.covers == "VDD_IN"


def test_jetson_sums_rails_without_one(device: Device) -> None:
    jetson(device, ["VDD_GPU_SOC", "VDD_CPU_CV"])
    (meter,) = boards.JetsonRails.find(device).meters
    assert meter.read() == pytest.approx(5 + 10)


def phone(device: Device, status: str, current: int) -> None:
    folder = "/sys/class/power_supply/battery"
    for name, value in (
        ("type", "Battery"), ("status", status),
        ("current_now", current), ("voltage_now", 4_000_000),
    ):  # fmt: skip
        device.write(f"{folder}/{name}", value)


@pytest.mark.parametrize("current", [800_000, -800_000])
def test_a_phone_that_discharges(device: Device, current: int) -> None:
    phone(device, "Discharging", current)
    (meter,) = battery.Battery.find(device).meters
    assert meter.read() == pytest.approx(3.2)
    phone(device, "Charging", current)
    assert meter.read() is None


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_a_phone_that_is_plugged_in_is_no_meter(device: Device, status: str) -> None:
    phone(device, status, 800_000)
    found = battery.Battery.find(device)
    assert found.meters == []
    assert status in found.lacking[0][1]


def test_a_laptop_with_power_now(device: Device) -> None:
    folder = "/sys/class/power_supply/BAT0"
    device.write(f"{folder}/type", "Battery")
    device.write(f"{folder}/status", "Discharging")
    device.write(f"{folder}/power_now", 9_500_000)
    (meter,) = battery.Battery.find(device).meters
    assert (meter.read(), meter.source) == (9.5, f"{folder}/power_now")


SMI = "nvidia-smi --query-gpu={} --format=csv,noheader,nounits"


def test_nvidia(device: Device) -> None:
    device.commands[SMI.format("power.draw")] = "71.30\n[N/A]\n60.20\n"
    device.commands[SMI.format("temperature.gpu")] = "33\n41\n37\n"
    (power,) = nvidia.NvidiaPower.find(device).meters
    (heat,) = thermal.NvidiaTemperature.find(device).meters
    assert power.read() == pytest.approx(131.5)
    assert heat.read() == 41


def test_nvml_counts_what_nvidia_smi_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its counter where there is one; power.draw on cards from before Volta."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 71.3\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr("plm_edge.machine.nvml.NAMES", [str(simulated.library(tmp_path))])
    (counter,) = nvidia.NvidiaEnergy.find(LocalHost()).meters
    assert (counter.name, counter.quantity) == ("nvidia", "energy")
    first, second = counter.read(), counter.read()
    assert first is not None
    assert second is not None
    assert 0 < first <= second
    monkeypatch.setenv("NVML_SIMULATED_OLD", "1")
    (power,) = nvidia.NvidiaEnergy.find(LocalHost()).meters
    assert (power.name, power.quantity, power.read()) == ("nvidia", "power", 71.3)


def test_a_gpus_counter_goes_before_a_sensor_where_it_computes(device: Device) -> None:
    device.write(f"{HWMON}/hwmon0/name", "nvme")
    device.write(f"{HWMON}/hwmon0/power1_average", 3_000_000)
    device.commands[SMI.format("power.draw")] = "50\n"
    found = meters.find(device)
    assert energy.main_meters(found) == ["nvme"]
    assert energy.main_meters(found, on_gpu=True) == ["nvidia"]


def test_temperatures_and_clocks(device: Device) -> None:
    device.write("/sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    device.write("/sys/class/thermal/thermal_zone0/temp", 61_250)
    device.write(f"{HWMON}/hwmon1/name", "k10temp")
    device.write(f"{HWMON}/hwmon1/temp1_input", 55_000)
    device.write(f"{HWMON}/hwmon1/temp1_label", "Tctl")
    for cpu, clock in ((0, 2_400_000), (1, 1_600_000)):
        device.write(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", clock)
    found = {meter.name: meter.read() for meter in meters.find(device).meters}
    assert found == {"cpu-thermal (0)": 61.25, "Tctl": 55.0, "cpufreq": 2000.0}


@pytest.mark.parametrize(
    ("said", "flag"), [("0x0", 0), ("0x50000", 0), ("0x4", 1), ("0x50005", 1), ("0x8", 1)]
)
def test_pi_throttled_now_and_not_since_boot(device: Device, said: str, flag: int) -> None:
    device.commands["vcgencmd get_throttled"] = f"throttled={said}\n"
    (meter,) = thermal.PiThrottled.find(device).meters
    assert meter.read() == flag


def test_intel_throttling_is_a_count_that_grows(device: Device) -> None:
    path = "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    device.write(path, 7)
    (meter,) = thermal.IntelThrottled.find(device).meters
    assert meter.read() == 0
    device.write(path, 9)
    assert [meter.read(), meter.read()] == [1, 0]


def test_cooling_of_the_cpu(device: Device) -> None:
    folder = "/sys/class/thermal/cooling_device"
    device.write(f"{folder}0/type", "pwm-fan")
    device.write(f"{folder}0/cur_state", 3)
    device.write(f"{folder}1/type", "cpufreq-cpu0")
    device.write(f"{folder}1/cur_state", 0)
    (meter,) = thermal.CoolingState.find(device).meters
    assert meter.read() == 0
    device.write(f"{folder}1/cur_state", 2)
    assert meter.read() == 1


def test_each_meter_names_unit_and_source(device: Device) -> None:
    rapl(device)
    device.commands["vcgencmd pmic_read_adc"] = PMIC
    device.commands["vcgencmd get_throttled"] = "throttled=0x0"
    for meter in meters.find(device).meters:
        said = meter.describe()
        assert said.unit == UNITS[said.quantity]
        assert said.source
        assert said.covers


def test_a_board_goes_before_packages_and_a_gpu_adds_to_them(device: Device) -> None:
    rapl(device)
    device.commands[SMI.format("power.draw")] = "50\n"
    assert energy.main_meters(meters.find(device)) == ["package-0", "package-1", "nvidia"]
    device.commands["vcgencmd pmic_read_adc"] = PMIC
    assert energy.main_meters(meters.find(device)) == ["pmic"]


class Scripted(Meter):
    """A meter that is not read."""

    def __init__(self, quantity: str, name: str = "it") -> None:
        super().__init__(name, "a test")
        self.quantity = quantity  # type: ignore[assignment]

    def read(self) -> float | None:
        raise AssertionError("not to be read")


def test_a_counter_is_divided_in_proportion() -> None:
    said = of_window(Scripted("energy"), [(0, 10.0), (10, 110.0), (20, 130.0)], 5, 15)
    assert said is not None
    assert said["joules"] == pytest.approx(120 - 60)
    assert said["watts"] == pytest.approx(6)


def test_a_window_beyond_the_readings_is_no_energy() -> None:
    assert of_window(Scripted("energy"), [(0, 10.0), (10, 110.0)], 5, 15) is None
    assert of_window(Scripted("power"), [], 5, 15) is None


def test_power_is_its_mean_over_time() -> None:
    said = of_window(Scripted("power"), [(0, 99.0), (5, 4.0), (10, 6.0), (20, 99.0)], 4, 14)
    assert said is not None
    assert (said["watts"], said["joules"], said["n"]) == (5, 50, 2)


def test_joules_a_token_and_idle_apart() -> None:
    recorder = Recorder([Scripted("energy")])
    recorder.series["it"] = [(0, 0.0), (10, 20.0), (20, 220.0)]
    idle = energy.idle_watts(recorder, ["it"], (0, 10))
    assert idle == pytest.approx(2)
    found = energy.of_point(recorder, ["it"], (10, 20), 100, idle).energy
    assert found is not None
    assert found.watts == pytest.approx(20)
    assert found.joules_a_token == pytest.approx(2)
    assert found.joules_a_token_above_idle == pytest.approx(1.8)


def test_throttling_in_the_window_alone() -> None:
    recorder = Recorder([Scripted("throttled")])
    recorder.series["it"] = [(1, 0.0), (5, 1.0), (9, 0.0)]
    assert energy.of_point(recorder, [], (4, 6), 1, None).throttled is True
    assert energy.of_point(recorder, [], (8, 10), 1, None).throttled is False
    assert energy.of_point(recorder, [], (20, 30), 1, None).throttled is None


def test_the_recorder_reads_at_its_pace_and_counts_its_cost(device: Device) -> None:
    rapl(device)
    with Recorder(counters.Rapl.find(device).meters, interval=0.01) as recorder:
        while len(recorder.series["package-0"]) < 5:
            pass
    cost = recorder.overhead()
    assert cost.rounds >= 5
    assert cost.seconds_a_round > 0
    assert 0 < cost.reading_share < 1


def test_another_machine_is_read_through_its_transport(device: Device, tmp_path: Path) -> None:
    """The same tree by shell commands: what ssh and adb do."""
    device.write("/value", 42)
    device.write("/other", 1)
    host = RemoteHost(LocalTransport())
    assert host.read(f"{tmp_path}/value") == "42"
    assert host.read(f"{tmp_path}/missing") is None
    assert host.glob(f"{tmp_path}/[ov]*") == [f"{tmp_path}/other", f"{tmp_path}/value"]
    assert host.run("printf", "a b") == "a b"
    assert host.run("no-such-program") is None
