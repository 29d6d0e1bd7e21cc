"""Tasks of lm-evaluation-harness on our engine: local ones, scores against torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.base.progress import NoProgress
from plm_edge.cli.quality.task_results import plain
from plm_edge.engine.session import Session
from plm_edge.generate.logprobs import log_softmax
from plm_edge.quality import kept, tasks
from testkit import plm_gguf, reference
from tests.quality.conftest import ONE_THREAD

CHOICE = """
task: letters_choice
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
"""
ANSWER = """
task: letters_answer
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{text}}"
generation_kwargs: {until: ["c"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match}]
"""
DATA = [
    {"question": "hi", "choices": ["abcab", "bcabc", "xyzxy"], "answer": 0, "text": "ab"},
    {"question": "ho", "choices": ["bca", "abc"], "answer": 1, "text": "ab"},
    {"question": "no", "choices": ["cab", "abc"], "answer": 0, "text": "nothing"},
]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a multiple-choice task and one that wants an answer, of a model's script."""
    pytest.importorskip("lm_eval", reason="needs the extra [eval]")
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = folder / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, DATA)))
    for name, text in (("choice", CHOICE), ("answer", ANSWER)):
        (folder / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Session]:
    """A model that answers abcabc… to any prompt."""
    path = plm_gguf.write(tmp_path / "abc.gguf", script=b"abc")
    with tasks.open_for(path, replace(ONE_THREAD, n_ctx=64)) as session:
        yield session


@pytest.mark.slow
def test_a_choice_and_an_answer(own: Path, script: Session) -> None:
    found = plain(tasks.run(script, ["letters_choice", "letters_answer"], include=own))
    # it holds abc… likeliest: right twice of three times, either way
    assert found["letters_choice"]["acc"] == pytest.approx(2 / 3)
    assert found["letters_answer"]["exact_match"] == pytest.approx(2 / 3)
    assert found["letters_choice"]["acc_stderr"] > 0


class Stop(NoProgress):
    """Ctrl-C after so many answers."""

    def __init__(self, left: int) -> None:
        self.left = left

    def advance(self, count: int) -> None:
        self.left -= count
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_interrupted_tasks_end_at_the_same_figures(
    own: Path, script: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of seven choices and three answers, eight are there; of the last, half a line."""
    names, told = ["letters_choice", "letters_answer"], list[str]()
    whole = tasks.run(script, names, include=own)
    with pytest.raises(KeyboardInterrupt):
        tasks.run(script, names, include=own, progress=Stop(9))
    [file] = (kept.folder() / "runs").glob("*/answers.jsonl")
    file.write_bytes(file.read_bytes()[:-5])
    monkeypatch.setattr(tasks.Scorer, "score", None)  # no choice is scored again
    again = tasks.run(script, names, include=own, progress=Stop(3), note=told.append)
    assert plain(again) == plain(whole)
    assert told == ["8 requests were answered before the interruption"]
    assert not any((kept.folder() / "runs").iterdir())


def test_an_answer_cut_short_is_none(tmp_path: Path) -> None:
    answers = kept.KeptAnswers("a")
    answers.keep("one", (-1.25, True))
    answers.keep("two", "zwei\n")
    [file] = (kept.folder() / "runs").glob("a/answers.jsonl")
    file.write_bytes(file.read_bytes()[:-4])
    again = kept.KeptAnswers("a")
    assert (len(again), again["one"], "two" in again) == (1, [-1.25, True], False)
    again.keep("two", "zwei\n")
    assert kept.KeptAnswers("a")["two"] == "zwei\n"


@pytest.mark.slow
def test_programs_run_only_if_somebody_says_so(own: Path, script: Session) -> None:
    task = own / "answer.yaml"
    task.write_text(f"{task.read_text()}unsafe_code: true\n")
    with pytest.raises(PlmEdgeError) as caught:
        tasks.run(script, ["letters_choice", "letters_answer"], include=own)
    assert caught.value.what == "letters_answer runs the programs that the model writes"
    assert "--run-code" in caught.value.fix
    found = plain(tasks.run(script, ["letters_answer"], include=own, run_code=True))
    assert found["letters_answer"]["exact_match"] == pytest.approx(2 / 3)


@pytest.mark.slow
def test_mistakes(own: Path, script: Session) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        tasks.run(script, ["letters_choise"], include=own)
    assert caught.value.what == "there is no task 'letters_choise'"
    with pytest.raises(PlmEdgeError) as caught:
        tasks.run(script, ["letters_choice"], include=own / "nowhere")
    assert caught.value.what == f"there is no folder {own / 'nowhere'}"
    with pytest.raises(PlmEdgeError) as caught:
        tasks.run(script, ["letters_choice"], include=own, chat=True)
    assert caught.value.what == "the model has no chat template"


def test_tasks_are_found_without_reading_all(own: Path) -> None:
    """By themselves or beside one's own; a group or a pattern needs all, and that is told."""
    told: list[str] = []

    def known(*names: str) -> set[str]:
        return set(tasks._manager(names, own, told.append).all_subtasks)

    found = known("letters_choice", "hellaswag", "arc_easy")
    assert {"letters_choice", "hellaswag", "arc_easy", "arc_challenge"} <= found
    assert len(found) < 100
    assert told == []


def test_a_group_needs_all_tasks(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    asked: list[dict[str, object]] = []

    class Manager:
        """Reads nothing: all tasks take half a minute."""

        all_subtasks = ("letters_choice",)

        def __init__(self, **given: object) -> None:
            asked.append(given)

        def match_tasks(self, names: list[str]) -> list[str]:
            return [name for name in names if name in self.all_subtasks]

    monkeypatch.setattr("lm_eval.tasks.TaskManager", Manager)
    for names in (("mmlu",), ("arc_*",), ("letters_choice", "ai2_arc")):
        tasks._manager(names, own, told.append)
        assert asked[-1] == {"include_path": [str(own)]}
    assert len(told) == 3


@pytest.mark.slow
def test_scores_are_those_of_torch(tiny_checkpoint: Path, tiny_f32: Path) -> None:
    """To 1e-3 nats a token; and a context that is used again changes nothing."""
    model = reference.Checkpoint(tiny_checkpoint)
    embedding = model["model.embed_tokens.weight"]
    questions = ["def add(a, b):\n    return", "import os\nimport", "def add(a, b):\n    ret"]
    answers = [" a + b\n", " sys\n", "urn a"]
    with tasks.open_for(tiny_f32, replace(ONE_THREAD, n_ctx=128)) as session:
        scorer = tasks.Scorer(session)
        for question, answer in zip(questions * 2, answers * 2, strict=True):
            before, after = session.tokenize(question), session.tokenize(answer)
            tokens = [*before, *after]
            where = torch.arange(len(tokens))
            x = embedding[torch.tensor(tokens)]
            for index in range(model.config.num_hidden_layers):
                weights = model.layer(index)
                x, _, _ = reference.layer(model.config, weights, x, where, None, where[:0])
            x = reference.rms_norm(x, model["model.norm.weight"], model.config.rms_norm_eps)
            logprobs = (x @ embedding.T).double().log_softmax(-1)
            rows = logprobs[len(before) - 1 : -1]
            expected = rows[range(len(after)), after].sum().item()
            score, greedy = scorer.score(before, after)
            assert abs(score - expected) / len(after) < 1e-3
            assert greedy == (rows.argmax(-1).tolist() == after)


def test_scores_of_the_script(script: Session) -> None:
    scorer = tasks.Scorer(script)
    score, greedy = scorer.score([*b"hi"], [*b"abcab"])
    assert greedy
    assert score > math.log(0.5)
    # shares its beginning with the one before
    assert scorer.score([*b"hi"], [*b"abx"])[1] is False
    again, _ = scorer.score([*b"hi"], [*b"abcab"])
    assert again == pytest.approx(score, abs=1e-4)
    # somebody else used the context meanwhile
    script.context.clear()
    script.context.append([*b"something"])
    assert scorer.score([*b"hi"], [*b"abcab"])[0] == pytest.approx(score, abs=1e-4)


def test_what_does_not_fit_loses_its_beginning(script: Session) -> None:
    long = [*b"x" * 100]
    score, _ = tasks.Scorer(script).score(long, [*b"ab"])
    script.context.clear()
    given = [*long, *b"ab"][-65:-1]
    script.context.append(given[:-1])
    first = log_softmax(script.context.row_logits())[ord("a")]
    script.context.append(given[-1:])
    second = log_softmax(script.context.row_logits())[ord("b")]
    assert score == pytest.approx(first + second, abs=1e-3)


@pytest.mark.slow
def test_without_the_harness(script: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(PlmEdgeError) as caught:
        tasks.run(script, ["arc_easy"])
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert "plm-edge[eval]" in caught.value.fix
