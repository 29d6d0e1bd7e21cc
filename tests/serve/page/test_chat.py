"""A person chats: typing, streaming, stopping, and coming back later."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.serve.page.conftest import Server, Visit, goes_on_writing, obeys, writes

pytestmark = pytest.mark.full  # Chromium, and llama-server compiled


def test_an_answer_is_streamed_with_its_figures(chat: Server, visit: Visit) -> None:
    person = visit(chat)
    writes(person.page, "One two three four five six seven eight nine ten.")
    person.asks("Count, please")
    page = person.page
    assert page.locator(".ask .text").inner_text() == "Count, please"
    assert page.locator(".answer .text").inner_text().endswith("nine ten.")
    figures = page.locator(".figures").inner_text()
    for part in ("t/s", "TTFT", "tokens", "KV cache", "zero rows"):
        assert part in figures
    expect(page.locator("#fill-text")).to_have_text(re.compile(r"^[1-9]\d* of 512 tokens$"))
    assert page.locator("#title").inner_text() == "Count, please"


def test_a_real_chat_model_answers_in_its_template(smollm: Server, visit: Visit) -> None:
    person = visit(smollm)
    # what is in the cache from other tests would have the rest computed in other parts, and rounded
    # otherwise
    obeys(person.page, {"cache_prompt": False})
    person.page.get_by_role("button", name="Settings").click()
    person.page.get_by_label("Temperature").fill("0")
    person.page.get_by_label("Most tokens").fill("24")
    person.page.get_by_role("button", name="Done").click()
    answer = person.asks("Name three colours.")
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Name three colours."}]}
    asked |= {"temperature": 0, "max_tokens": 24, "cache_prompt": False}
    wanted = smollm.post("v1/chat/completions", asked)
    assert person.page.evaluate("said(chat.turns[1])") == wanted["choices"][0]["message"]["content"]
    assert answer
    assert "<|im" not in answer
    assert "zero rows" not in person.page.locator(".figures").inner_text()  # it has none to count


def test_a_base_model_goes_on_with_the_text(base: Server, visit: Visit) -> None:
    person = visit(base)
    person.page.get_by_role("button", name="Settings").click()
    person.page.get_by_label("Most tokens").fill("8")
    person.page.get_by_label("Temperature").fill("0")
    assert person.page.locator("#raw").is_disabled()
    person.page.get_by_role("button", name="Done").click()
    assert person.page.locator("#send").inner_text() == "Continue"
    first = person.asks("The KV cache")
    assert person.posted[0]["prompt"] == "The KV cache"
    assert "messages" not in person.posted[0]
    person.page.get_by_role("button", name="Go on").click()
    person.waits_for_end()
    whole = person.page.locator(".answer .text").inner_text()
    assert whole.startswith(first)
    assert len(whole) > len(first)
    assert person.posted[1]["prompt"] == "The KV cache" + first


def test_stopping_keeps_what_was_written_also_over_a_reload(smollm: Server, visit: Visit) -> None:
    person = visit(smollm)
    goes_on_writing(person.page, "word ")
    person.sends("Go")
    person.page.locator(".writing .text", has_text="word word").wait_for()
    person.page.get_by_role("button", name="Stop").click()
    person.waits_for_end()
    text = person.page.locator(".answer .text").inner_text()
    assert "word word" in text
    assert "You stopped it" in person.page.locator(".end").inner_text()
    assert "t/s" in person.page.locator(".figures").inner_text()
    person.page.unroute_all()
    person.page.reload()
    person.page.locator(".answer .text", has_text="word word").wait_for()
    assert person.page.locator(".answer .text").inner_text() == text
    # the server has stopped too: it answers others
    one = {"prompt": "a", "n_predict": 1, "ignore_eos": True}
    assert smollm.post("completion", one)["tokens_predicted"] == 1


def test_a_reload_in_the_middle_keeps_the_part_that_there_was(smollm: Server, visit: Visit) -> None:
    person = visit(smollm)
    goes_on_writing(person.page, "word ")
    person.sends("Go")
    person.page.locator(".writing .text", has_text="word word").wait_for()
    person.page.reload()
    assert "word word" in person.page.locator(".answer .text").inner_text()
    assert "broke off" in person.page.locator(".end").inner_text()
    assert person.page.locator("#send").inner_text() == "Send"


def test_answers_and_questions_can_be_had_anew(chat: Server, visit: Visit) -> None:
    person = visit(chat)
    page = person.page
    writes(page, "The first.")
    person.asks("Question")
    page.unroute_all()
    writes(page, "The second.")
    page.get_by_role("button", name="Answer again").click()
    person.waits_for_end()
    assert page.locator(".answer .text").inner_text() == "The second."
    page.get_by_role("button", name="Earlier version").click()
    assert page.locator(".answer .text").inner_text() == "The first."
    page.get_by_role("button", name="Edit the question").click()
    assert page.locator("#ask").input_value() == "Question"
    page.locator("#ask").fill("Another question")
    page.locator("#ask").press("Enter")
    person.waits_for_end()
    assert page.locator(".ask .text").all_inner_texts() == ["Another question"]
    page.get_by_role("button", name="Undo").click()
    assert page.locator(".ask .text").all_inner_texts() == ["Question"]
    assert page.locator(".answer .text").inner_text() == "The first."


def test_several_chats_are_kept_named_exported_and_deleted(
    chat: Server, visit: Visit, tmp_path: Path
) -> None:
    person = visit(chat)
    page = person.page
    writes(page, "An *answer*.")
    person.asks("Apples")
    page.get_by_role("button", name="New chat").click()
    person.asks("Pears")
    page.reload()
    titles = page.locator("#list .open span")
    expect(titles).to_have_text(["Pears", "Apples"])
    page.get_by_role("button", name="Apples", exact=False).first.click()
    assert page.locator(".ask .text").inner_text() == "Apples"

    page.get_by_role("button", name="Name, export or delete “Apples”").click()
    page.get_by_label("Name", exact=True).fill("Fruit")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as Markdown").click()
    download.value.save_as(tmp_path / "chat.md")
    assert download.value.suggested_filename == "apples.md"
    assert "**Answer**\n\nAn *answer*." in (tmp_path / "chat.md").read_text(encoding="utf-8")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as JSON").click()
    download.value.save_as(tmp_path / "chat.json")
    exported = json.loads((tmp_path / "chat.json").read_text(encoding="utf-8"))
    assert exported["schema"] == "plm-edge/chat/1"
    assert [m["content"] for m in exported["messages"]] == ["Apples", "An *answer*."]
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#title")).to_have_text("Fruit")  # a dialog tells later that it closed

    page.get_by_role("button", name="Name, export or delete “Fruit”").click()
    page.get_by_role("button", name="Delete this chat").click()
    expect(titles).to_have_text(["Pears"])
    page.get_by_role("button", name="Undo").click()
    expect(titles).to_have_count(2)
    assert sorted(titles.all_inner_texts()) == ["Fruit", "Pears"]


def test_the_system_prompt_and_the_settings_are_sent(chat: Server, visit: Visit) -> None:
    person = visit(chat)
    page = person.page
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt of this chat").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.25")
    page.get_by_label("Most tokens").fill("5")
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Done").click()
    writes(page, "word " * 40)
    person.asks("Hello")
    [body] = person.posted
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (0.25, 5, 7)
    assert "most tokens" in page.locator(".end").inner_text()


def test_what_was_typed_survives_a_reload(chat: Server, visit: Visit) -> None:
    person = visit(chat)
    person.types("half a thought")
    person.page.reload()
    assert person.page.locator("#ask").input_value() == "half a thought"
