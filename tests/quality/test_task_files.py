"""A task's file is found as the harness would find it, or is said to be unclear."""

from __future__ import annotations

from pathlib import Path

from plm_edge.quality import task_files

FILES = {
    "a/_base.yaml": "tag: base_tag\ndataset_path: x\n",
    "a/one.yaml": "include: _base.yaml\ntask: one\n",
    "a/two.yaml": "tag:\n  - pair\n  - of_two\ntask: 'two'  # the second\n",
    "a/group.yaml": "group: both\ntask:\n  - one\n  - two\n",
    "b/two.yaml": "task: two\n",
    "b/deep/three.yaml": "task: three\ntag: [three_tag, one_more]\n",
    "b/name.yaml": "task: both_ways\n",
    "c/tag.yaml": "tag: both_ways\ntask: other\n",
    "c/words.yaml": "doc_to_text: only_words\ntask: some\n",
}


def find(root: Path, *names: str) -> task_files.Found:
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return task_files.find(root, names)


def test_tasks_by_name(tmp_path: Path) -> None:
    found = find(tmp_path, "one", "two", "three")
    assert found.files == {
        "one": tmp_path / "a/one.yaml",
        "two": tmp_path / "a/two.yaml",  # the first by path, as in the harness
        "three": tmp_path / "b/deep/three.yaml",
    }
    assert (found.unknown, found.unclear) == ((), ())


def test_what_needs_more_than_a_file_is_unclear(tmp_path: Path) -> None:
    names = ("both", "pair", "of_two", "one_more", "base_tag", "both_ways", "only_words", "o*")
    found = find(tmp_path, *names)
    assert found.files == {}
    assert found.unclear == names


def test_a_name_that_no_file_has(tmp_path: Path) -> None:
    assert find(tmp_path, "one", "four").unknown == ("four",)


def test_folders_hold_each_other(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("b/x.yaml", "b/deep/y.yaml", "a/z.yaml", "b/w.yaml")]
    assert task_files.folders(files) == [str(tmp_path / "a"), str(tmp_path / "b")]
