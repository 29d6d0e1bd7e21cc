"""How a result says where it comes from."""

from __future__ import annotations

import pytest

from benchmarks import origin


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("/home/a/models/a.gguf", "a.gguf"),
        ("models/a.gguf", "a.gguf"),
        ("before=/home/a/engine", "before=engine"),
        ("--out=/tmp/a.json", "--out=a.json"),
        ("--rounds", "--rounds"),
        ("q4_k;tt 2x3", "q4_k;tt 2x3"),
    ],
)
def test_a_command_names_no_folder(word: str, kept: str) -> None:
    assert origin.command("load", ["--a", word]) == f"python -m benchmarks.load --a {kept}"


def test_a_change_is_said() -> None:
    source = {"commit": "0123456789abcdef", "changed": True}
    data = {"source": source, "command": "make it", "load_average": {"before": [0.5, 1, 1]}}
    said = "Commit 0123456789ab with changes. Load before 0.5. Measure it again: `make it`."
    assert origin.said_again(data) == said
