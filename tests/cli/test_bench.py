"""`plm-edge bench` as a process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

from plm_edge.bench import history
from plm_edge.bench.result.shape import of_text
from plm_edge.cli.bench.group import current_spelling
from testkit.cli import Cli
from tests.bench.conftest import check

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


def test_what_would_be_ignored_is_refused(cli: Cli, models: Path, tmp_path: Path) -> None:
    """An empty text would be measured as random tokens, and --json would win over --csv."""
    model = models / "abc.gguf"
    what, _, _ = cli.fails("bench", model, *SMOKE, "--csv", "--json", code=2)
    assert what == "--csv has no effect with --json"
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert cli.fails("bench", model, *SMOKE, "--text", empty, code=3)[1] == "it is empty"
    for path, why in ((tmp_path / "no.json", "No such file or directory"), (empty, "is not JSON")):
        assert why in cli.fails("bench", "compare", path, model, *SMOKE, code=3)[1]


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
    done = cli("bench", "compare", first, models / "abc.gguf", *SMOKE, "--json")
    found = json.loads(done.stdout)
    check(found)
    assert [point["name"] for point in found["comparison"]["points"]][-2:] == ["pp32", "tg8"]
    assert found["comparison"]["differences"] == []
    cli.env["PLM_EDGE_EXACT"] = "1"
    found = json.loads(cli("bench", "compare", first, models / "abc.gguf", *SMOKE, "--json").stdout)
    assert found["comparison"]["differences"] == ["exact: True here, False there"]


def test_what_is_exact_has_a_history_of_its_own(cli: Cli, models: Path) -> None:
    for more in ((), ("--exact",)):
        done = cli("bench", models / "abc.gguf", *SMOKE, "--json", *more)
    result = of_text(done.stdout)
    assert result.settings.exact
    assert history.setting_of(result) != history.setting_of(
        structs.replace(result, settings=structs.replace(result.settings, exact=False))
    )


def test_history(cli: Cli, models: Path, tmp_path: Path) -> None:
    assert "nothing was measured" in cli("bench", "history").stderr
    for _ in range(2):
        cli("bench", models / "abc.gguf", *SMOKE, "--json")
    cli("bench", models / "abc.gguf", *SMOKE, "--json", "--no-history")
    runs = json.loads(cli("bench", "history", "--json").stdout)["runs"]
    assert [run["id"] for run in runs] == [2, 1]
    assert len(cli("bench", "history").stdout.splitlines()) == 3
    page = tmp_path / "history.html"
    cli("bench", "history", "--html", page)
    assert page.read_text().count("<svg") == 2


def test_a_regression_is_pointed_out_at_once_and_in_the_history(cli: Cli, models: Path) -> None:
    """The run before is made a hundred times as fast as it was, and steady."""
    import sqlite3

    call = ("bench", models / "abc.gguf", *SMOKE, "--budget", "2", "--json")
    found = json.loads(cli(*call).stdout)
    for point in found["points"]:
        for rate in ("median", "minimum", "maximum", "mean"):
            if "tps" in point:
                point["tps"][rate] *= 100
        if "tps" in point:  # three samples on a busy machine may say nothing
            point["tps"]["interval"] = 0.01
    with sqlite3.connect(Path(cli.env["PLM_EDGE_DATA_DIR"]) / "bench.sqlite") as base:
        base.execute("update runs set result = ?", (json.dumps(found),))
    done = cli("bench", models / "abc.gguf", *SMOKE, "--budget", "2")
    assert "tg8 is slower than on" in done.stderr
    newest, before = json.loads(cli("bench", "history", "--json").stdout)["runs"]
    assert any(line.startswith("tg8 slower") for line in newest["slower"])
    assert before["slower"] == []


def test_an_option_before_a_command_is_the_commands(cli: Cli, tmp_path: Path) -> None:
    assert json.loads(cli("bench", "--json", "history").stdout)["runs"] == []
    what, _, _ = cli.fails("bench", "--html", "/nowhere/x.html", "history", code=2)
    assert "/nowhere/x.html" in what


def test_a_model_in_a_file_that_is_named_as_a_command(
    cli: Cli, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("history").symlink_to(models / "abc.gguf")
    assert "nothing was measured" in cli("bench", "history").stderr
    found = json.loads(cli("bench", "./history", *SMOKE, "--json").stdout)
    assert found["model"]["path"] == "history"


@pytest.mark.parametrize(
    ("former", "current"),
    [
        (["x.gguf", "--matrix", "--sweep", "kv=f16"], ["matrix", "x.gguf", "--sweep", "kv=f16"]),
        (["x", "--suite", "paper", "--json"], ["paper", "x", "--json"]),
        (["--suite=paper"], ["paper"]),
        (["x.gguf", "--compare", "stock"], ["compare", "stock", "x.gguf"]),
        (["--compare=a.json", "x.gguf"], ["compare", "a.json", "x.gguf"]),
        (["x.gguf", "--compare"], ["x.gguf", "--compare"]),
        (["x.gguf", "--json"], ["x.gguf", "--json"]),
    ],
)
def test_options_that_became_commands(former: list[str], current: list[str]) -> None:
    assert current_spelling(former) == current


def test_an_option_that_became_a_command_runs_it(cli: Cli, tmp_path: Path) -> None:
    former = cli.fails("bench", tmp_path / "none", "--suite", "paper", code=3)
    assert former == cli.fails("bench", "paper", tmp_path / "none", code=3)


def test_a_matrix_as_json_and_page(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "matrix.html"
    sweep = ("--sweep", "quant=q8_0", "--sweep", "threads=1", "--sweep", "kv=f16,q8_0")
    call = ("bench", "matrix", *sweep, "--budget", "0.1", "--json", "--html", page)
    found = json.loads(cli(*call).stdout)
    assert [cell["kv"] for cell in found["cells"]] == ["f16", "q8_0"]
    assert page.read_text().count("<svg") == 2


def test_the_papers_suite_wants_a_good_model(cli: Cli, models: Path, tmp_path: Path) -> None:
    cli.fails("bench", "paper", tmp_path / "none", code=3)


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
