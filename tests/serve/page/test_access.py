"""The page is for everybody: small screens, keyboards, screen readers, dark rooms."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.serve.page.conftest import (
    KEY,
    MakeServer,
    Person,
    Server,
    Visit,
    goes_on_writing,
    visiting,
    writes,
)

pytestmark = pytest.mark.full
RICH = (
    "# Head\n\nA [link](https://example.org) and `code`.\n\n"
    "```py\nx\n```\n\n|a|b|\n|-|-|\n|c|d|\n\n> q\n"
)
SCREENS: list[dict[str, Any]] = [
    {"viewport": {"width": 360, "height": 640}, "color_scheme": "light"},
    {"viewport": {"width": 360, "height": 640}, "color_scheme": "dark"},
    {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
]


def found_by_axe(person: Person) -> list[str]:
    result = Axe().run(person.page).response
    return [
        f"{rule['id']}: {node['html'][:120]}"
        for rule in result["violations"]
        for node in rule["nodes"]
    ]


def fits(person: Person) -> bool:
    return bool(
        person.page.evaluate(
            "document.scrollingElement.scrollWidth <= innerWidth"
            " && document.querySelector('main').scrollWidth <= innerWidth"
        )
    )


@pytest.mark.parametrize("screen", SCREENS, ids=["phone", "dark phone", "desk", "dark desk"])
def test_axe_finds_nothing_in_any_state(chat: Server, visit: Visit, screen: dict[str, Any]) -> None:
    person = visit(chat, **screen)
    page = person.page
    assert found_by_axe(person) == []  # empty
    writes(page, RICH)
    person.asks("Show everything " + "verylongword" * 12)
    assert found_by_axe(person) == []  # a chat
    assert fits(person)
    page.get_by_role("button", name="Edit the question").click()
    assert found_by_axe(person) == []
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Settings").click()
    assert found_by_axe(person) == []
    assert fits(person)
    page.keyboard.press("Escape")
    if screen["viewport"]["width"] < 900:
        page.get_by_role("button", name="Chats").click()
        assert found_by_axe(person) == []
    page.get_by_role("button", name="Name, export or delete").click()
    assert found_by_axe(person) == []
    page.keyboard.press("Escape")


def test_axe_finds_nothing_while_it_writes_and_in_trouble(
    visit: Visit, make_server: MakeServer, chat_gguf: object
) -> None:
    server = make_server(chat_gguf, "--ctx-size", "4096")
    person = visit(server)
    goes_on_writing(person.page, "word ")
    person.sends("Go")
    person.page.locator(".writing .text", has_text="word word").wait_for()
    assert found_by_axe(person) == []
    server.kill()
    expect(person.page.locator("#notice")).to_contain_text("does not answer")
    assert found_by_axe(person) == []


def test_axe_finds_nothing_where_a_key_is_asked_for(
    browser: Any, make_server: MakeServer, tiny_gguf: object
) -> None:
    server = make_server(tiny_gguf, key=KEY)
    with visiting(browser, server, "") as person:
        person.page.get_by_role("dialog").wait_for()
        assert found_by_axe(person) == []


def test_everything_by_keyboard(smollm: Server, visit: Visit) -> None:
    person = visit(smollm)
    page = person.page
    goes_on_writing(page, "Once. Twice. ")
    assert page.evaluate("document.activeElement.id") == "ask"  # the first thing is to write
    page.keyboard.type("Two")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("lines")
    page.keyboard.press("Enter")
    page.locator(".writing .text", has_text="Twice").wait_for()
    assert page.locator(".ask .text").inner_text() == "Two\nlines"
    assert page.evaluate("document.activeElement.id") == "ask"  # it stays there
    page.keyboard.press("Escape")
    person.waits_for_end()
    expect(page.locator(".end")).to_contain_text("You stopped it")
    page.unroute_all()
    writes(page, "Again.")
    page.get_by_role("button", name="Answer again").focus()
    page.keyboard.press("Enter")
    person.waits_for_end()
    assert page.evaluate("document.activeElement !== document.body")
    page.get_by_role("button", name="Settings").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('#settings').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(page.locator("#show-settings")).to_be_focused()


def test_a_screen_reader_hears_sentences_and_the_end(chat: Server, visit: Visit) -> None:
    person = visit(chat)
    page = person.page
    page.evaluate(
        """() => {
          window.heard = [];
          new MutationObserver(changes => changes.forEach(change =>
            change.addedNodes.forEach(node => heard.push(node.textContent))
          )).observe(document.querySelector('#spoken'), {childList: true});
        }"""
    )
    writes(page, "One sentence. Another one.")
    person.asks("Hello")
    heard = page.evaluate("heard")
    assert "".join(heard[:-1]) == "One sentence. Another one."
    assert heard[-1] == "End of the answer."
    assert len(heard) <= 4  # not each token
    assert page.locator("#spoken").get_attribute("aria-live") == "polite"
    assert page.locator("#turns [aria-live]").count() == 0


def test_nothing_moves_for_who_wants_less_motion(smollm: Server, visit: Visit) -> None:
    person = visit(smollm, reduced_motion="reduce")
    goes_on_writing(person.page, "word ")
    person.sends("Go")
    person.page.locator(".writing .text", has_text="word word").wait_for()
    moving = "document.getAnimations().filter(a => a.playState === 'running').length"
    assert person.page.evaluate(moving) == 0


def test_reading_further_up_is_not_disturbed(chat: Server, visit: Visit) -> None:
    person = visit(chat, viewport={"width": 360, "height": 640})
    page = person.page
    writes(page, "line\n\n" * 40)
    person.asks("Go")
    place = "document.querySelector('main').scrollTop"
    lowest = page.evaluate(place)
    assert lowest > 300  # the newest is in sight
    page.locator("#main").hover()
    page.mouse.wheel(0, -200)
    page.wait_for_function(f"lowest => {place} === lowest - 200", arg=lowest)  # it glides there
    page.locator("#newest").wait_for()
    before = page.evaluate(place)
    page.evaluate("chat.turns[1].versions[0].text += '\\n\\nmore'; showTurns()")
    assert page.evaluate(place) == before < lowest
    page.locator("#newest").click()
    assert page.evaluate(place) > lowest
