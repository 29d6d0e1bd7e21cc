"""`plm-edge bench` as a process."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.conftest import check
from tests.cli.conftest import Cli

SMOKE = ("--workload", "smoke", "--threads", "1")


def test_the_table_goes_to_stdout(cli: Cli, models: Path) -> None:
    done = cli("bench", models / "abc.gguf", *SMOKE)
    first = {line.split("  ")[0] for line in done.stdout.splitlines()}
    assert {"load warm", "pp32", "tg8", "peak RSS", "weights", "KV cache", "compute"} <= first
    assert "\x1b" not in done.stdout + done.stderr


def test_json_meets_the_schema(cli: Cli, models: Path) -> None:
    done = cli("bench", models / "abc.gguf", *SMOKE, "--json")
    check(json.loads(done.stdout))
    assert done.stderr == ""


def test_without_a_model_the_bundled_one_is_measured(cli: Cli) -> None:
    done = cli("bench", *SMOKE)
    assert "the bundled tiny-plm" in done.stderr


def test_an_unknown_workload(cli: Cli, models: Path) -> None:
    what, why, _ = cli.fails("bench", models / "abc.gguf", "--workload", "nope", code=2)
    assert "nope" in what
    assert "standard" in why


def test_a_missing_model(cli: Cli, tmp_path: Path) -> None:
    cli.fails("bench", tmp_path / "none.gguf", code=3)
