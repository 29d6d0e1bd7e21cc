"""HTML and CSV: whole, well-formed, and asking nothing of the network."""

from __future__ import annotations

import copy
import csv
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench import sustained
from plm_edge.bench.analyse import compare
from plm_edge.bench.meters.recorder import Recorder
from plm_edge.bench.render import charts, report
from plm_edge.bench.render.summary import remarks
from plm_edge.bench.result.shape import as_json, of_json
from plm_edge.bench.worker.events import Measured, Sample
from plm_edge.bench.workload import WORKLOADS, Point


@pytest.fixture
def full(result: dict[str, Any]) -> dict[str, Any]:
    """A result with all parts: a comparison, a sustained run with a meter."""
    made = copy.deepcopy(result)
    other = copy.deepcopy(result)
    other["engine"]["name"] = "stock"
    made["comparison"] = {
        "with": other,
        "differences": compare.differences(of_json(made), of_json(other)),
        "points": [as_json(one) for one in compare.compare(of_json(made), of_json(other))],
    }
    made["power"]["meters"] = [
        {"name": "soc", "quantity": "temperature", "unit": "°C", "source": "x", "covers": "y"}
    ]
    made["sustained"] = {
        "rates": [[1, 50.0], [2, 40.0]], "held": 0.8, "series": {"soc": [[0, 40.0], [2, 60.0]]}
    }  # fmt: skip
    return made


class Links(HTMLParser):
    """Everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag == "svg"
        self.fetched += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "srcset", "data")
            and value
            and not value.startswith("#")
        ]
        assert tag not in ("script", "link", "iframe", "object")


def test_the_report_asks_nothing_of_the_network(full: dict[str, Any]) -> None:
    page = report.html([of_json(full)])
    links = Links()
    links.feed(page)
    assert links.fetched == []
    assert not re.search(r"url\((?!#)|@import", page)
    assert links.images == 7
    assert 'name="viewport"' in page
    assert "Against stock" in page


def test_a_model_cannot_write_into_the_page(full: dict[str, Any]) -> None:
    full["model"]["name"] = "<script>alert(1)</script>"
    assert "<script>" not in report.html([of_json(full)])


def test_pictures_are_well_formed_and_hold_text(full: dict[str, Any]) -> None:
    found = of_json(full)
    for svg in (
        charts.rates([("plm-edge", found), ("stock", found)], "decode"),
        charts.rates([("plm-edge", found)], "prefill"),
        charts.batches(found),
        charts.latencies(found),
        charts.roofline(found),
        charts.zeros(found),
        charts.sustained(found),
    ):
        assert svg is not None
        root = ET.fromstring(svg)
        assert "viewBox" in root.attrib
        assert "width" not in root.attrib
        assert list(root.iter("{http://www.w3.org/2000/svg}text"))


def test_several_devices_stand_side_by_side(full: dict[str, Any]) -> None:
    devices = []
    for name in ("one", "two", "three", "four"):
        full["machine"]["device"] = name
        devices.append(of_json(copy.deepcopy(full)))
    together = charts.rates([(one.machine.device, one) for one in devices], "decode")
    assert together is not None
    page = report.html(devices)
    for name in ("one", "two", "three", "four"):
        assert name in together
        assert f"<th>{name}</th>" in page
        assert f"{name}: {full['model']['name']}" in page


def test_a_sustained_run_has_no_interval_to_reach(full: dict[str, Any]) -> None:
    full["settings"]["workload"]["interval"] = -1.0  # as a sustained workload has it
    for point in full["points"]:
        point["interval_reached"] = False
    assert not [line for line in remarks(of_json(full)) if "was known to" in line]
    full["settings"]["workload"]["interval"] = 0.03
    assert [line for line in remarks(of_json(full)) if "was known to 3 %" in line]


def test_a_sustained_run_has_a_row_for_each_quantity(full: dict[str, Any]) -> None:
    full["power"]["meters"].append(
        {"name": "cpufreq", "quantity": "frequency", "unit": "MHz", "source": "x", "covers": "y"}
    )
    full["sustained"]["series"]["cpufreq"] = [[0, 2400.0], [2, 1800.0]]
    svg = charts.sustained(of_json(full))
    assert svg is not None
    axes = [g for g in ET.fromstring(svg).iter() if g.get("id", "").startswith("axes_")]
    assert len(axes) == 3
    assert "temp, °C" in svg
    assert "freq, MHz" in svg


def test_what_was_not_measured_has_no_picture(result: dict[str, Any]) -> None:
    result = copy.deepcopy(result)
    result["points"] = [p for p in result["points"] if p["kind"] == "prefill"]
    found = of_json(result)
    assert charts.rates([("x", found)], "decode") is None
    assert charts.zeros(found) is None
    assert charts.sustained(found) is None


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlmEdgeError) as caught, charts.canvas():
        pass
    assert "plm-edge[report]" in caught.value.fix


def test_csv_has_a_line_for_each_point(full: dict[str, Any]) -> None:
    results = [of_json(full), of_json(full["comparison"]["with"])]
    lines = list(csv.DictReader(io.StringIO(report.to_csv(results))))
    assert len(lines) == 12
    assert [line["engine"] for line in lines] == ["plm-edge"] * 6 + ["stock"] * 6
    decode = next(line for line in lines if line["name"] == "tg4")
    assert float(decode["median"]) == full["points"][3]["tps"]["median"]
    assert decode["joules_a_token"] == ""


def test_a_report_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report.write(path, "one")
    report.write(path, "two")
    assert path.read_text() == "two"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_model_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(PlmEdgeError, match="cannot be written") as caught:
        report.check_place(tmp_path / "model.gguf")
    assert "a model lies there" in caught.value.why


def test_a_place_that_became_unusable_meanwhile(tmp_path: Path) -> None:
    report.check_place(tmp_path / "no.html")
    with pytest.raises(PlmEdgeError, match="cannot be written"):
        report.write(tmp_path / "no/report.html", "one")


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("90s", 90), ("1.5h", 5400), ("7", 7)])
def test_durations(text: str, seconds: float) -> None:
    assert sustained.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5 minutes", "-3s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(PlmEdgeError):
        sustained.seconds(text)


def test_a_rate_that_falls() -> None:
    samples = [Sample(start=10 + i, end=11 + i, tokens=10, seconds=1 + i / 100) for i in range(100)]
    recorder = Recorder([])
    recorder.series["soc"] = [(10, 40.0), (110, 80.0)]
    found = sustained.of(Measured(Point("decode", 10), samples), recorder)
    assert found.held == pytest.approx(1.045 / 1.945, rel=1e-3)
    assert found.rates[0] == (1, 10.0)
    assert found.series["soc"] == [(0, 40.0), (100, 80.0)]


def test_the_sustained_workload_is_decode_alone() -> None:
    made = sustained.workload(WORKLOADS["standard"], 300)
    assert [point.name for point in made.points()] == ["tg32"]
    assert made.budget_s == 300
