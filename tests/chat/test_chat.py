"""What a chat keeps, drops and gives back, with a model that computes."""

from __future__ import annotations

import json
import stat

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.chat import file, folder
from plm_edge.chat.chat import Chat, Setting
from tests.chat.conftest import GREEDY, MakeChat

ENDLESS = {"endless": True, "setting": Setting(GREEDY, n_predict=20)}


def say(chat: Chat, question: str) -> str:
    return "".join(chat.ask(question))


def test_turns_go_to_the_model_and_into_the_file(make_chat: MakeChat) -> None:
    chat = make_chat()
    chat.conversation.system = "be"
    assert say(chat, "one") == "xyz"
    assert say(chat, "two") == "xyz"
    assert chat.conversation.prompt(0) == [
        {"role": "system", "content": "be"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "xyz"},
        {"role": "user", "content": "two"},
    ]
    saved = json.loads(chat.file.path.read_bytes())
    took = saved["conversation"]["turns"][1]["figures"]
    assert took["n_prompt"] == len(chat.encode(chat.conversation.prompt(0)))
    assert 0 < took["n_computed"] <= took["n_prompt"]
    assert took["n_generated"] == 3
    assert took["prefill_s"] > 0 < took["decode_s"]
    assert saved["schema"] == "plm-edge/chat/1"
    assert [turn["answer"] for turn in saved["conversation"]["turns"]] == ["xyz", "xyz"]
    assert saved["conversation"]["turns"][0]["stop_reason"] == "end"
    assert stat.S_IMODE(chat.file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(chat.file.path.parent.stat().st_mode) == 0o700


def test_a_full_context_drops_whole_turns_and_says_how_many(make_chat: MakeChat) -> None:
    chat = make_chat(n_ctx=256)
    chat.conversation.system = "stay"
    dropped = []
    for number in range(12):
        answer = chat.ask(f"{number:02}" * 10)
        assert "".join(answer) == "xyz"
        dropped.append(answer.n_dropped)
        prompt = chat.conversation.prompt(chat.conversation.n_dropped)
        assert len(chat.encode(prompt)) + 32 <= 256
        assert prompt[0] == {"role": "system", "content": "stay"}
    assert sum(dropped) == chat.conversation.n_dropped > 0
    assert len(chat.conversation.turns) == 12  # all of them stay in the file
    # A quarter of the context was made free: the next turns do not drop one each.
    assert dropped.count(0) > len(dropped) // 2


def test_strict_drops_nothing_and_leaves_the_chat_as_it_was(make_chat: MakeChat) -> None:
    chat = make_chat(n_ctx=256, setting=Setting(GREEDY, strict=True))
    for number in range(3):
        say(chat, f"{number}" * 50)
    before = chat.file.path.read_bytes()
    with pytest.raises(PlmEdgeError, match="the context is full") as error:
        chat.ask("4" * 100)
    assert "256" in error.value.why
    assert len(chat.conversation.turns) == 3
    assert chat.file.path.read_bytes() == before
    assert say(chat, "short") == "xyz"


def test_a_message_that_never_fits(make_chat: MakeChat) -> None:
    chat = make_chat(n_ctx=256)
    say(chat, "one")
    with pytest.raises(PlmEdgeError, match="the message does not fit") as error:
        chat.ask("4" * 400)
    assert "403 tokens" in error.value.why
    assert [turn.question for turn in chat.conversation.turns] == ["one"]
    assert chat.conversation.n_dropped == 0


def test_an_answer_that_fills_the_context_goes_on_without_the_oldest(make_chat: MakeChat) -> None:
    chat = make_chat(n_ctx=256, **{**ENDLESS, "setting": Setting(GREEDY, n_predict=60)})
    for number in range(2):
        say(chat, f"{number}" * 20)
    answer = chat.ask("2" * 30)
    text = "".join(answer)
    assert text == "xyz" * 20  # 60 tokens, though fewer had room at first
    assert answer.n_dropped > 0
    assert answer.stop_reason == "length"


def test_strict_stops_an_answer_where_the_context_ends(make_chat: MakeChat) -> None:
    chat = make_chat(n_ctx=256, endless=True, setting=Setting(GREEDY, strict=True))
    answer = chat.ask("1")
    assert set("".join(answer)) == set("xyz")
    assert answer.stop_reason == "context"


def test_undo_gives_the_dropped_turns_back(make_chat: MakeChat) -> None:
    chat = make_chat(n_ctx=256)
    for number in range(3):
        say(chat, f"{number}" * 40)
    assert chat.conversation.n_dropped == 0
    say(chat, "9" * 150)
    assert chat.conversation.n_dropped > 0
    assert chat.undo().question == "9" * 150
    assert chat.conversation.n_dropped == 0
    assert len(json.loads(chat.file.path.read_bytes())["conversation"]["turns"]) == 3


def test_retry_replaces_the_answer(make_chat: MakeChat) -> None:
    chat = make_chat()
    say(chat, "one")
    chat.conversation.turns[-1].answer = "worse"
    assert "".join(chat.retry()) == "xyz"
    assert [(turn.question, turn.answer) for turn in chat.conversation.turns] == [("one", "xyz")]


def test_retry_and_undo_want_a_turn(make_chat: MakeChat) -> None:
    chat = make_chat()
    for command in (chat.retry, chat.undo):
        with pytest.raises(PlmEdgeError, match="there is no turn yet"):
            command()


def test_an_answer_that_is_abandoned_keeps_its_text(make_chat: MakeChat) -> None:
    chat = make_chat(**ENDLESS)
    texts = iter(chat.ask("one"))
    begun = next(texts) + next(texts)
    texts.close()  # type: ignore[attr-defined]
    assert chat.conversation.turns[-1].answer == begun
    assert chat.conversation.turns[-1].interrupted
    say(chat, "two")
    assert {"role": "assistant", "content": begun} in chat.conversation.prompt(0)


def test_a_model_without_a_template_continues_the_text(make_chat: MakeChat) -> None:
    chat = make_chat(template=None, **ENDLESS)
    chat.conversation.system = "It was"
    assert say(chat, "hello ") == ("xyz" * 7)[:20]
    chat.ask("")
    assert chat.conversation.prompt(0) == "It was\n\nhello " + ("xyz" * 7)[:20]
    ended = make_chat(template=None)
    say(ended, "one")
    ended.ask("two")
    assert ended.conversation.prompt(0) == "onexyz\ntwo"


def test_text_that_is_no_utf8_is_kept_as_far_as_it_goes(make_chat: MakeChat) -> None:
    chat = make_chat()
    say(chat, "a\udcffb")
    assert chat.conversation.turns[0].question == "a\ufffdb"
    assert file.read(chat.file.path).conversation.turns[0].question == "a\ufffdb"


def test_nothing_is_saved_that_was_not_asked_for(make_chat: MakeChat) -> None:
    chat = make_chat()
    chat.save()
    assert folder.names() == []
    kept_out = Chat(chat.generator, chat.n_ctx, chat.file, chat.setting, keep=False)
    say(kept_out, "secret")
    assert folder.names() == []


def test_how_full_the_context_is(make_chat: MakeChat) -> None:
    chat = make_chat()
    assert chat.fullness().next_turn is None
    say(chat, "one")
    say(chat, "three")
    full = chat.fullness()
    # uone⏎ axyz⏎ uthree⏎ a + xyz
    assert full.n_used == 5 + 5 + 7 + 1 + 3
    assert full.next_turn is not None
    assert full.next_turn[0].question == "one"
    assert full.next_turn[1] == 10
