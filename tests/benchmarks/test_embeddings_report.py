"""What was measured of smaller embeddings holds what docs/embeddings.md says."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import report
from benchmarks.embeddings_report import section


def result(model: str) -> dict[str, Any]:
    return report.recorded(f"embeddings-{model}")


def rows(model: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result(model)["rows"]}


@pytest.mark.parametrize("model", ["smollm2", "tiny-plm"])
def test_trains_find_no_structure(model: str) -> None:
    shapes = result(model)["control"]
    assert [len(shape["dims"]) for shape in shapes] == [2, 3, 4, 5, 6, 7, 8]
    for shape in shapes:
        found = shape["errors"]
        assert found["as it is"] > found["normal numbers"] - 0.035
        assert found["columns permuted"] == pytest.approx(found["as it is"], abs=0.015)


def test_what_the_page_says_of_smollm2() -> None:
    made = rows("smollm2")
    trains = made["tt 24x24 r6 f16, 2.00x"]
    assert trains["error"] == pytest.approx(0.590, abs=0.005)
    assert 3.5 < trains["input"]["perplexity"] / trains["reference"]["perplexity"] < 5.5
    fine = made["q5_k"]["both"]["kl"][0]
    split = made["r1 + q5_k below 8192, q3_k gptq"]
    assert split["bits"] < 4 < made["q4_k gptq"]["bits"] < 4.6
    for row in (split, made["q4_k gptq"]):
        assert row["both"]["kl"][0] <= 0.8 * fine
    assert made["q5_k below 8192, q3_k gptq"]["both"]["kl"][0] > 1.5 * split["both"]["kl"][0]
    finer = made["r1 + q6_k below 8192, q4_k gptq"]
    assert finer["bits"] < 5
    assert finer["both"]["kl"][0] < made["q5_k gptq"]["both"]["kl"][0]


def test_what_the_page_says_of_tiny_plm() -> None:
    made = rows("tiny-plm")
    fine = made["r1 + q6_k below 1024, q4_k gptq"]
    assert fine["bits"] < 0.94 * made["q5_k"]["bits"]
    assert fine["both"]["kl"][0] < 1.2 * made["q5_k"]["both"]["kl"][0]
    for types in ("q5_k below 1024, q3_k", "q4_k", "q5_k"):
        ways = [made[f"{types} {how}"]["both"]["kl"][0] for how in ("gptq", "im")]
        assert ways[0] < 0.95 * ways[1]


@pytest.mark.parametrize("model", ["smollm2", "tiny-plm"])
def test_at_equal_bytes_a_k_quant_is_better_than_trains(model: str) -> None:
    made = rows(model)
    for name, row in made.items():
        if name.startswith("tt "):
            quant = made["q4_k" if row["bits"] > 4.5 else "q3_k"]
            assert quant["bits"] <= row["bits"]
            assert quant["both"]["kl"][0] < 0.5 * row["both"]["kl"][0]


@pytest.mark.parametrize("model", ["smollm2", "tiny-plm"])
def test_the_section_has_every_row(model: str) -> None:
    found = result(model)
    text = section(found)
    for row in [*found["rows"], *found["speed"]]:
        assert f"| {row['name']} |" in text


def test_what_the_page_says_of_plm_1_8bs_shapes() -> None:
    found, made = result("synthetic"), rows("synthetic")
    text = section(found)
    assert all(f"| {name} |" in text for name in made)
    plain, split = made["q5_k, as it is"], made["split, q5_k below token 8192, q3_k"]
    assert plain["file_bytes"] - split["file_bytes"] == pytest.approx(75.7e6, rel=0.01)
    assert plain["head_bytes"] - split["head_bytes"] == pytest.approx(75.7e6, rel=0.01)
    trains = made["tt, twice, f16"]
    cores = 151_936 * 960 * 2  # 32 x 64 with rank 10, beside the matrix that stays
    assert trains["file_bytes"] - plain["file_bytes"] == pytest.approx(cores, rel=0.001)
    pairs = zip(made["q4_k"]["turns"], plain["turns"], strict=True)
    assert all(a["tps"] > b["tps"] for a, b in pairs)
    if not found["meters"]:
        assert "Energy: not measured here" in text
