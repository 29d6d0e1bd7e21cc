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


def test_csv_and_html_in_one_call(cli: Cli, models: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = cli("bench", models / "abc.gguf", *SMOKE, "--csv", "--html", report, "--quiet")
    assert done.stdout.splitlines()[0].startswith("engine,device,model")
    assert report.read_text().startswith("<!doctype html>")


def test_a_report_that_cannot_be_written_is_told_first(cli: Cli, models: Path) -> None:
    what, _, _ = cli.fails("bench", models / "abc.gguf", "--html", "/nowhere/x.html", code=2)
    assert "/nowhere/x.html" in what


def test_compare_with_a_file(cli: Cli, models: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    first.write_text(cli("bench", models / "abc.gguf", *SMOKE, "--json").stdout)
    done = cli("bench", models / "abc.gguf", *SMOKE, "--json", "--compare", first)
    found = json.loads(done.stdout)
    check(found)
    assert [point["name"] for point in found["comparison"]["points"]][-2:] == ["pp32", "tg8"]
    assert found["comparison"]["differences"] == []


def test_history(cli: Cli, models: Path) -> None:
    assert "nothing was measured" in cli("bench", "history").stderr
    for _ in range(2):
        cli("bench", models / "abc.gguf", *SMOKE, "--json")
    cli("bench", models / "abc.gguf", *SMOKE, "--json", "--no-history")
    runs = json.loads(cli("bench", "history", "--json").stdout)["runs"]
    assert [run["id"] for run in runs] == [2, 1]
    assert len(cli("bench", "history").stdout.splitlines()) == 3


def test_sustained(cli: Cli, models: Path) -> None:
    done = cli("bench", models / "abc.gguf", *SMOKE, "--sustained", "0.3s", "--json")
    found = json.loads(done.stdout)
    check(found)
    assert len(found["sustained"]["rates"]) == found["points"][0]["tps"]["n"] >= 2
    assert [point["name"] for point in found["points"]] == ["tg8"]


def test_tokens_of_a_text(cli: Cli, models: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("some text of a person")
    found = json.loads(cli("bench", models / "abc.gguf", *SMOKE, "--json", "--text", text).stdout)
    assert found["settings"]["tokens"] == "text"
