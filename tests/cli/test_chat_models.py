"""tiny-plm, which has no chat template, and SmolLM2, which has one, hold a conversation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testkit.cli import Cli
from tests.cli.chat_screen import ChatScreen
from tests.cli.chats import GREEDY


@pytest.mark.slow
def test_smollm_answers_in_its_template(cli: Cli, chat_gguf: Path) -> None:
    first = cli("chat", chat_gguf, *GREEDY, "-n", "12", stdin=b"What is the capital of France?")
    assert first.stdout.strip()
    second = cli("chat", "-c", *GREEDY, "-n", "12", "--stats", stdin=b"And of Italy?")
    assert second.stdout.strip()
    for text in (first.stdout, second.stdout):
        assert "<|im_" not in text
    folder = Path(cli.env["PLM_EDGE_DATA_DIR"]) / "chats"
    (path,) = folder.glob("*.json")
    turns = json.loads(path.read_bytes())["conversation"]["turns"]
    assert [turn["question"] for turn in turns] == [
        "What is the capital of France?",
        "And of Italy?",
    ]
    # The second prompt holds the first turn, in ChatML.
    assert turns[1]["figures"]["n_prompt"] > turns[0]["figures"]["n_prompt"] + 12


@pytest.mark.slow
def test_smollm_forgets_the_oldest_turns(cli: Cli, chat_gguf: Path) -> None:
    arguments = ("--ctx", "384", "-n", "40", "--temp", "0.7", "--seed", "1", "--threads", "1")
    screen = ChatScreen(cli, chat_gguf, *arguments, "--system", "Be brief.", columns=40)
    screen.wait_prompt()
    for number in range(4):
        screen.answer_to(f"Tell me about number {number}. " + "Please. " * 30)
    assert "context full" in screen.text
    screen.answer_to("/context")
    assert "never dropped: Be brief." in screen.text.replace("\n", " ") or "Be brief" in screen.text
    assert screen.leave() == 0


@pytest.mark.slow
def test_tiny_plm_continues_a_text(cli: Cli, tiny_gguf: Path) -> None:
    screen = ChatScreen(cli, tiny_gguf, *GREEDY, "-n", "8")
    screen.wait_prompt()
    assert "this model has no chat template" in screen.text
    screen.answer_to("def add(a, b):")
    screen.answer_to("")
    screen.answer_to("/stats")
    assert "zero rows" in screen.text
    assert screen.leave() == 0
