"""Every built-in profile: by the schema, with sources, and right for the tools it names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from plm_edge.converters.plan.recipes import RECIPES
from plm_edge.devices import cores
from plm_edge.devices.profiles import profile, schema, toml_writer
from plm_edge.devices.profiles.profile import Profile
from testkit.checkout import ROOT, Upstream

SCHEMA = json.loads((ROOT / "devices/schema.json").read_text())
PATHS = sorted((ROOT / "devices").glob("*.toml"))
PROFILES = [profile.load(path, "built-in") for path in PATHS]
DESCRIBED = [found for found in PROFILES if not found.detected]
WANTED = {
    "rpi5", "rpi4", "oneplus12", "pixel8", "android-arm64", "jetson-orin-nano", "jetson-agx-orin",
    "macbook-air-m3", "rtx3060", "rtx4090", "a100", "h200", "x86-64-v2", "x86-64-v3", "x86-64-v4",
    "host",
}  # fmt: skip


def named(profiles: list[Profile]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("found", profiles, ids=lambda found: found.name)


def test_all_are_there() -> None:
    assert {found.name for found in PROFILES} >= WANTED


@named(PROFILES)
def test_the_schema(found: Profile) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(found.data)


@named(PROFILES)
def test_every_source_is_used_and_says_where(found: Profile) -> None:
    used = set(re.findall(r"'source': '([^']*)'", str(found.data)))
    assert used == set(found.sources)
    for text in found.sources.values():
        assert re.search(r"https://|\(1\), macOS manual|psABI", text), text


@named(PROFILES)
def test_it_is_written_as_it_was_read(found: Profile, tmp_path: Path) -> None:
    path = tmp_path / f"{found.name}.toml"
    path.write_text(toml_writer.dumps(found.data))
    assert profile.load(path).data == found.data


@named(DESCRIBED)
def test_defaults_are_ones_that_exist(found: Profile) -> None:
    defaults = found.section("defaults")
    assert defaults["quant"] in RECIPES
    assert not found.cores or defaults["threads"] <= found.cores


@named(DESCRIBED)
def test_the_build_needs_no_more_than_the_cpu_has(found: Profile) -> None:
    needed = {"dotprod": "asimddp", "fullfp16": "asimdhp", "i8mm": "i8mm", "sve": "sve"}
    cpu = found.section("build")["cpu"]
    for extra in cpu.split("+")[1:]:
        assert extra == "v8_2a" or needed[extra] in found.features
    if found.arch == "x86_64":
        level = cores.x86_level(set(found.features))
        assert cpu == f"x86_64_{level}"
        assert found.section("build")["variants"] == cores.X86_VARIANTS[level]
    if "asimddp" not in found.features and found.arch == "aarch64":
        assert found.section("build")["variants"] == ["armv8.0_1"]


def test_zig_knows_every_target(tmp_path: Path) -> None:
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    targets = {
        (found.section("build")["triple"], found.section("build")["cpu"]) for found in DESCRIBED
    }
    for triple, cpu in sorted(targets):
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", triple, f"-mcpu={cpu}"]
        command = [*zig, "-c", "empty.c", "-o", "empty.o"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (triple, cpu, done.stderr)


def test_ggml_knows_every_variant(upstream: Upstream) -> None:
    text = (upstream.tree / "ggml/src/CMakeLists.txt").read_text()
    known = set(re.findall(r"ggml_add_cpu_backend_variant\(([\w.]+)", text))
    for found in DESCRIBED:
        assert set(found.section("build")["variants"]) <= known


# --- what is wrong, in words ------------------------------------------------------------------


def keywords(rule: Any) -> Iterator[str]:
    """JSON Schema's keywords that a rule uses, at any depth; names of properties are none."""
    if isinstance(rule, dict):
        for key, value in rule.items():
            yield key
            inner = value.values() if key in ("properties", "$defs") else [value]
            for part in inner:
                yield from keywords(part)
    elif isinstance(rule, list):
        for part in rule:
            yield from keywords(part)


def changed(path: str, value: Any) -> dict[str, Any]:
    """rpi5 with one value replaced; None takes it out."""
    data = json.loads(json.dumps(profile.find("rpi5").data))
    *above, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place = data
    for part in above:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return dict(data)


WRONG = [
    ("cpu/clusters/0/clock/unit", "MHz", "cpu.clusters[0].clock.unit is 'MHz', and GHz is wanted"),
    ("cpu/clusters/0/count", 0, "cpu.clusters[0].count is 0, and at least 1 is wanted"),
    ("cpu/clusters/0/count", True, "cpu.clusters[0].count is True, and an integer is wanted"),
    ("cpu/clusters/0/count", 2.5, "cpu.clusters[0].count is 2.5, and an integer is wanted"),
    ("cpu/clusters", [], "cpu.clusters is empty"),
    ("cpu/arch", "riscv64", "cpu.arch is 'riscv64', and aarch64 or x86_64 is wanted"),
    ("cpu/arhc", "aarch64", "cpu.arhc is not known; arch is"),
    ("cpu/features", "asimd", "cpu.features is 'asimd', and a list is wanted"),
    ("memory/bandwidth/value", 0, "memory.bandwidth.value is 0, and more than 0 is wanted"),
    ("memory/bandwidth/source", None, "memory.bandwidth.source is missing"),
    ("memory/bandwidth", 17.1, "memory.bandwidth is 17.1, and a table is wanted"),
    ("name", "Has Blanks", "name is 'Has Blanks', which does not have the form"),
    ("schema", "plm-edge/device/9", "schema is 'plm-edge/device/9', and plm-edge/device/1"),
    ("build/flags/0", "GGML_NATIVE", "build.flags[0] is 'GGML_NATIVE', which does not"),
    ("sources/brief", 5, "sources.brief is 5, and a string is wanted"),
    ("transport", None, "transport is missing"),
]


@pytest.mark.parametrize(("path", "value", "told"), WRONG)
def test_what_is_wrong_is_told(path: str, value: Any, told: str) -> None:
    data = changed(path, value)
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(data)
    assert told in next(schema.problems(data, SCHEMA))


def test_every_keyword_of_the_schema_has_its_words() -> None:
    """No case of WRONG is missing for what the schema can refuse."""
    refused = {
        str(error.validator)
        for path, value, _ in WRONG
        for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(changed(path, value))
    }
    can_refuse = set(jsonschema.Draft202012Validator.VALIDATORS) - {"items", "properties", "$ref"}
    assert set(keywords(SCHEMA)) & can_refuse == refused


@named(PROFILES)
def test_what_is_right_is_not_complained_of(found: Profile) -> None:
    assert [*schema.problems(found.data, SCHEMA)] == []
