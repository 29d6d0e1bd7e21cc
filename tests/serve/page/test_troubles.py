"""What goes wrong is said in plain words, and nothing is lost by it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.serve.page.conftest import (
    KEY,
    MakeServer,
    Server,
    Visit,
    goes_on_writing,
    visiting,
    writes,
)

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def locked(make_server: MakeServer, tiny_gguf: object) -> Server:
    return make_server(tiny_gguf, "--chat-template", "chatml", key=KEY)


@pytest.fixture
def mortal(make_server: MakeServer, chat_gguf: object) -> Iterator[Server]:
    """A server that the test may stop."""
    server = make_server(chat_gguf)
    yield server
    server.stop()


def test_a_key_is_asked_for_and_kept_only_if_wanted(browser: Browser, locked: Server) -> None:
    with visiting(browser, locked, "") as person:
        page = person.page
        dialog = page.get_by_role("dialog", name="This server asks for a key")
        dialog.wait_for()
        dialog.get_by_label("Key", exact=True).fill("wrong")
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog.get_by_role("alert")).to_contain_text("does not know this key")
        dialog.get_by_label("Key", exact=True).fill(KEY)
        dialog.get_by_role("button", name="Use this key").click()
        dialog.wait_for(state="hidden")
        writes(page, "Let in.")
        assert person.asks("Hello") == "Let in."
        assert KEY not in str(page.evaluate("({...localStorage, ...sessionStorage})"))
        page.reload()
        dialog.wait_for()  # forgotten
        dialog.get_by_label("Key", exact=True).fill(KEY)
        dialog.get_by_label("Keep it in this browser").check()
        dialog.get_by_role("button", name="Use this key").click()
        dialog.wait_for(state="hidden")
        page.reload()
        expect(page.locator("#fill-text")).to_contain_text("of 512 tokens")
        assert dialog.is_hidden()
        page.get_by_role("button", name="Settings").click()
        page.get_by_role("button", name="Forget the key").click()
        dialog.wait_for()
        assert KEY not in str(page.evaluate("({...localStorage, ...sessionStorage})"))


def test_the_key_of_the_qr_code_leaves_the_address_at_once(visit: Visit, locked: Server) -> None:
    person = visit(locked, f"#key={KEY}")
    page = person.page
    assert page.url == locked.url
    assert page.evaluate("history.length") <= 2
    assert not any(KEY in url for url in person.requests)
    writes(page, "Let in.")
    assert person.asks("Hello") == "Let in."
    assert KEY not in str(page.evaluate("({...localStorage, ...sessionStorage})"))


def test_that_key_is_kept_when_the_person_says_so(visit: Visit, locked: Server) -> None:
    person = visit(locked, f"#key={KEY}")
    person.page.get_by_role("button", name="Keep it in this browser").click()
    person.page.reload()
    expect(person.page.locator("#fill-text")).to_contain_text("of 512 tokens")


def test_the_server_goes_and_comes_back(visit: Visit, mortal: Server) -> None:
    person = visit(mortal)
    page = person.page
    goes_on_writing(page, "word ")
    person.sends("Go")
    page.locator(".writing .text", has_text="word word").wait_for()
    mortal.kill()
    expect(page.locator("#notice")).to_contain_text("The server does not answer")
    assert "word word" in page.locator(".answer .text").inner_text()
    expect(page.locator(".end")).to_contain_text("broke off")
    page.unroute_all()
    mortal.start()
    expect(page.locator("#notice")).to_contain_text("The server is back")
    writes(page, "Whole.")
    page.get_by_role("button", name="Answer again").click()
    person.waits_for_end()
    assert page.locator(".answer .text").inner_text() == "Whole."


def test_a_model_that_still_loads_is_waited_for(browser: Browser, mortal: Server) -> None:
    """The server's own answer while it loads, given by the test: tiny-plm loads too quickly."""
    with visiting(browser, mortal, "") as person:
        page = person.page
        page.route(
            "**/health",
            lambda route: route.fulfill(
                status=503,
                json={"error": {"message": "Loading model", "code": 503, "progress": 0.42}},
            ),
        )
        page.reload()
        expect(page.locator("#notice")).to_contain_text("loading its model: 42 %")
        assert page.get_by_role("progressbar").get_attribute("value") == "0.42"
        page.unroute_all()
        expect(page.locator("#fill-text")).to_contain_text("of 512 tokens")
        expect(page.locator("#notice")).to_be_empty()


def test_a_chat_that_outgrew_the_context_goes_on_without_its_oldest_part(
    visit: Visit, chat: Server
) -> None:
    person = visit(chat)
    page = person.page
    writes(page, "Yes.")
    for _ in range(3):
        person.asks("tokens and tokens and tokens " * 8)
        if page.locator("#notice.bad").is_visible():
            break
    person.sends("zebra quilt oxygen " * 32)
    notice = page.locator("#notice")
    expect(notice).to_contain_text("longer than what the model can hold")
    expect(notice).to_contain_text(re.compile(r"\d{3} tokens, and there is room for 512"))
    notice.get_by_role("button", name="Leave out the oldest part").click()
    person.waits_for_end()
    expect(page.locator(".answer .text").last).to_have_text("Yes.")
    expect(page.locator(".cut")).to_contain_text("no longer sent")
    assert page.locator(".left-out").count() >= 2


def test_a_question_that_is_too_long_by_itself(visit: Visit, chat: Server) -> None:
    person = visit(chat)
    person.page.locator("#ask").fill("zebra quilt oxygen " * 200)
    person.page.locator("#send").click()
    expect(person.page.locator("#notice")).to_contain_text("Shorten the question")
    person.page.get_by_role("button", name="Change the question").click()
    assert person.page.locator("#ask").input_value().startswith("zebra")


def test_an_answer_that_fills_the_context_says_so(visit: Visit, chat: Server) -> None:
    person = visit(chat)
    writes(person.page, "word " * 200)
    person.page.locator("#ask").fill("zebra quilt oxygen " * 44)
    person.page.locator("#send").click()
    person.waits_for_end()
    expect(person.page.locator(".end")).to_contain_text("The context is full")
    expect(person.page.locator("#fill-text")).to_contain_text("nearly full")


def test_a_browser_that_keeps_nothing_says_so(visit: Visit, chat: Server) -> None:
    person = visit(chat)
    person.page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full') } }")
    writes(person.page, "Yes.")
    person.asks("Hello")
    assert person.page.locator(".answer .text").inner_text() == "Yes."
    expect(person.page.locator("#notice")).to_contain_text("no room")


def test_what_another_program_left_in_the_storage_does_no_harm(visit: Visit, chat: Server) -> None:
    person = visit(chat)
    for text in ("null", "{", "[]", '{"id":1}', '{"id":"x","turns":[{"role":"assistant"}]}'):
        person.page.evaluate("text => localStorage.setItem('plm-edge:chat:x', text)", text)
        person.page.reload()
        expect(person.page.locator("#fill-text")).to_contain_text("of 512 tokens")
