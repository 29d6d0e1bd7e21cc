"""The registry loses nothing: not when it is damaged, and not when two programs write at once."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from plm_edge.store import registry
from tests.store.conftest import stub


def damaged(data: Path) -> list[Path]:
    return sorted(data.glob("models.damaged-*.json"))


def test_the_first_version_is_read(data: Path, tmp_path: Path) -> None:
    path = stub(tmp_path / "a.gguf")
    data.mkdir()
    entry = {"path": str(path), "source": "s", "quant": "q", "n_bytes": 4, "added": "2026"}
    content = {"schema": "plm-edge/registry/1", "models": [entry]}
    registry.registry_path().write_text(json.dumps(content))
    assert registry.known().models == (registry.RegisteredModel(str(path), "s", "q", 4, "2026"),)
    registry.add_model(stub(tmp_path / "b.gguf"), "s", "q")
    assert [Path(model.path).name for model in registry.entries()] == ["a.gguf", "b.gguf"]
    assert damaged(data) == []


def test_one_damaged_entry_takes_no_other_with_it(data: Path, tmp_path: Path) -> None:
    registry.add_model(stub(tmp_path / "a.gguf"), "s", "q")
    registry.update(lambda known: replace(known, aliases={"a": str(tmp_path / "a.gguf")}))
    content = json.loads(registry.registry_path().read_text())
    cases: list[object] = [{"path": 1}, {**content["models"][0], "n_bytes": "4"}, None, [], "x"]
    for wrong in cases:
        broken = json.dumps({**content, "models": [wrong, *content["models"]]})
        registry.registry_path().write_text(broken)
        assert [model.path for model in registry.entries()] == [str(tmp_path / "a.gguf")]
        registry.add_model(stub(tmp_path / "b.gguf"), "s", "q")
        assert len(registry.entries()) == 2
        assert registry.known().aliases == {"a": str(tmp_path / "a.gguf")}
        assert damaged(data)[-1].read_text() == broken


def test_what_cannot_be_read_is_kept(data: Path, tmp_path: Path) -> None:
    data.mkdir()
    newer = '{"schema": "plm-edge/registry/9", "models": []}'
    for number, content in enumerate(("{", newer, '{"schema": []}', "[]"), 1):
        registry.registry_path().write_text(content)
        assert registry.known().models == ()
        registry.add_model(stub(tmp_path / "a.gguf"), "s", "q")
        assert len(damaged(data)) == number
        assert damaged(data)[-1].read_text() == content
    registry.registry_path().write_text("[]")  # kept once
    registry.add_model(stub(tmp_path / "a.gguf"), "s", "q")
    assert len(damaged(data)) == 4


def test_a_file_that_is_gone_stays_known(data: Path, tmp_path: Path) -> None:
    registry.add_model(stub(tmp_path / "a.gguf"), "s", "q")
    registry.add_model(stub(tmp_path / "b.gguf"), "s", "q")
    (tmp_path / "b.gguf").unlink()
    assert registry.newest() == tmp_path / "a.gguf"
    registry.add_model(stub(tmp_path / "c.gguf"), "s", "q")
    stub(tmp_path / "b.gguf")
    assert len(registry.entries()) == 3


def test_what_pull_placed_stays_so(data: Path, tmp_path: Path) -> None:
    path = stub(tmp_path / "a.gguf")
    registry.add_model(path, "hub", "Q8_0", origin="pulled", repository="u/r", placed=True)
    again = registry.add_model(path, path, "", origin="added")
    assert again.placed
    assert again.repository == "u/r"
    assert not registry.add_model(path, "s", "q").placed  # converted over it


def test_models_and_aliases_at_once(data: Path, tmp_path: Path) -> None:
    """Processes that add models and others that add aliases overwrite nothing of each other."""
    paths = [stub(tmp_path / f"{i}.gguf") for i in range(12)]
    program = """
import sys, pathlib
from dataclasses import replace
from plm_edge.store import registry
for word in sys.argv[1:]:
    registry.add_model(pathlib.Path(word), "s", "q")
    name = pathlib.Path(word).stem
    registry.update(lambda known: replace(known, aliases={**(known.aliases or {}), name: word}))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", program, *map(str, paths[i::3])]) for i in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    known = registry.known()
    assert {model.path for model in known.models} == set(map(str, paths))
    assert known.aliases == {path.stem: str(path) for path in paths}
