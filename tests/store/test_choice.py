"""A model is named by a path, an alias, its file's stem, NAME:QUANT or USER/REPO:QUANT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.store import names, registry
from plm_edge.store.choice import choose, locate
from tests.store.conftest import stub


@pytest.fixture
def three(data: Path, tmp_path: Path) -> dict[str, Path]:
    """A converted model, and two quantisations of a pulled one."""
    files = {
        "converted": stub(tmp_path / "out/PLM-1.8B-q4_k.gguf"),
        "q4": stub(tmp_path / "hub/Smol-135M-Q4_K_M.gguf"),
        "q8": stub(tmp_path / "hub/Smol-135M.Q8_0.gguf"),
    }
    registry.add_model(files["converted"], "PLM-Team/PLM-1.8B", "q4_k")
    for name in ("q4", "q8"):
        registry.add_model(files[name], "hub", "", origin="pulled", repository="somebody/Smol-GGUF")
    return files


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("PLM-1.8B-q4_k", "converted"),
        ("PLM-1.8B:q4_k", "converted"),
        ("plm-1.8b:Q4_K", "converted"),
        ("PLM-1.8B", "converted"),
        ("somebody/Smol-GGUF:Q4_K_M", "q4"),
        ("somebody/smol-gguf:q8_0", "q8"),
        ("Smol-GGUF:Q8_0", "q8"),
        ("Smol-135M:Q8_0", "q8"),
        ("Smol-135M.Q8_0", "q8"),
    ],
)
def test_names(three: dict[str, Path], name: str, file: str) -> None:
    choice = choose(name)
    assert choice.path == three[file]
    assert choice.origin == "given"
    assert choose(choice.name).path == three[file]


def test_a_path_comes_before_a_name(
    three: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = stub(tmp_path / "PLM-1.8B")
    assert choose("PLM-1.8B").path.resolve() == here
    here.unlink()
    here.mkdir()  # a folder cannot run, the model of this name can
    assert choose("PLM-1.8B").path == three["converted"]
    assert locate("PLM-1.8B") == Path("PLM-1.8B")


def test_an_alias_comes_before_a_name(three: dict[str, Path]) -> None:
    registry.update(lambda known: replace(known, aliases={"PLM-1.8B": str(three["q8"])}))
    assert choose("PLM-1.8B").path == three["q8"]
    three["q8"].unlink()
    with pytest.raises(PlmEdgeError, match="stands for a file that is gone"):
        choose("PLM-1.8B")


@pytest.mark.parametrize("name", ["somebody/Smol-GGUF", "Smol-135M", "smol-gguf"])
def test_several(three: dict[str, Path], name: str) -> None:
    with pytest.raises(PlmEdgeError, match="several models") as error:
        choose(name)
    assert "somebody/Smol-GGUF:Q4_K_M, somebody/Smol-GGUF:Q8_0" in error.value.why


def test_the_same_stem_twice(three: dict[str, Path], tmp_path: Path) -> None:
    other = stub(tmp_path / "other/PLM-1.8B-q4_k.gguf")
    registry.add_model(other, "x", "q4_k")
    with pytest.raises(PlmEdgeError, match="several models") as error:
        choose("PLM-1.8B-q4_k")
    assert str(other) in error.value.why
    three["converted"].unlink()
    assert choose("PLM-1.8B-q4_k").path == other


def test_a_file_that_is_gone(three: dict[str, Path]) -> None:
    three["converted"].unlink()
    with pytest.raises(PlmEdgeError, match=r"the file of PLM-1\.8B is gone") as error:
        choose("PLM-1.8B")
    assert error.value.fix.endswith("plm-edge rm PLM-1.8B")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("PLM-1.8", "did you mean PLM-1.8B"),
        ("somebody/Smol-GUF:Q8_0", "did you mean somebody/Smol-GGUF:Q8_0"),
        ("else/entirely", "plm-edge pull else/entirely"),
        ("qwerty", "plm-edge list"),
    ],
)
def test_wrong_names(three: dict[str, Path], name: str, fix: str) -> None:
    with pytest.raises(PlmEdgeError) as error:
        choose(name)
    assert error.value.what == f"there is no model {name}"
    assert fix in error.value.fix
    assert error.value.code == ExitCode.INPUT


def test_an_empty_name(three: dict[str, Path]) -> None:
    with pytest.raises(PlmEdgeError, match="the name of the model is empty") as error:
        choose("")
    assert error.value.code == ExitCode.USAGE


def test_a_link_that_leads_nowhere(data: Path, tmp_path: Path) -> None:
    """The folder holds its name, which must not be proposed in its place."""
    link = tmp_path / "model.gguf"
    link.symlink_to("unmounted/model.gguf")
    with pytest.raises(PlmEdgeError, match="leads to no file") as error:
        choose(link)
    assert "a link to unmounted/model.gguf" in error.value.why
    assert "did you mean" not in error.value.fix


@pytest.mark.parametrize("path", ["./x", "/no/where", "a/b/c", "~/nothing", "x.gguf"])
def test_what_can_only_be_a_path(three: dict[str, Path], path: str) -> None:
    with pytest.raises(PlmEdgeError, match="there is no file"):
        choose(path)


def test_the_variable(three: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(None).path == three["q8"]
    assert choose(None).origin == "newest"
    monkeypatch.setenv("PLM_EDGE_MODEL", "PLM-1.8B")
    assert choose(None).path == three["converted"]
    assert choose(None).origin == "environment"
    assert choose("Smol-GGUF:Q8_0").path == three["q8"]
    monkeypatch.setenv("PLM_EDGE_MODEL", "nothing")
    with pytest.raises(PlmEdgeError) as error:
        choose(None)
    assert error.value.why.startswith("PLM_EDGE_MODEL is nothing")
    monkeypatch.setenv("PLM_EDGE_MODEL", "")
    assert choose(None).origin == "newest"


def test_the_bundled_model_has_a_name(data: Path) -> None:
    assert choose("tiny-plm").path == choose(None).path
    assert choose(None).name == "tiny-plm"


@pytest.mark.parametrize(
    ("stem", "parts"),
    [
        ("PLM-1.8B-q4_k", ("PLM-1.8B", "q4_k")),
        ("Model.Q8_0", ("Model", "Q8_0")),
        ("Model-UD-IQ2_XXS", ("Model", "UD-IQ2_XXS")),
        ("big-BF16-00001-of-00003", ("big", "BF16")),
        ("tiny-plm", ("tiny-plm", "")),
        ("Q4_K_M", ("", "Q4_K_M")),
    ],
)
def test_stems(stem: str, parts: tuple[str, str]) -> None:
    assert names.split_stem(stem) == parts
