"""What a model writes is shown as text with some form, and does nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.serve.page.conftest import Person, Server, Visit, visiting, writes

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> "
    "[a](javascript:document.title='owned') [b](data:text/html,owned) [c](JaVaScRiPt:alert(1)) "
    "![d](http://127.0.0.2:9/beacon.png) <http://evil@127.0.0.2/> [ok](https://example.org/x) "
    "<a href='https://example.org' onclick='alert(1)'>e</a> &lt;b&gt; <svg/onload=alert(1)>"
)
INERT = """text => {
  const box = document.createElement('div');
  renderMarkdown(box, text);
  const found = [...box.querySelectorAll('*')];
  return {
    tags: [...new Set(found.map(e => e.localName))].sort(),
    handlers: found.flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on')),
    links: found.filter(e => e.href).map(e => [e.getAttribute('href'), e.rel, e.target]),
    text: box.textContent,
  };
}"""
SHAPE = """text => {
  const box = document.createElement('div');
  renderMarkdown(box, text);
  const shape = node => node.nodeType === 3 ? node.data : node.localName === 'br' ? '<br>'
    : `<${node.localName}>${[...node.childNodes].map(shape).join('')}</${node.localName}>`;
  return [...box.childNodes].map(shape).join('').replaceAll('<button>Copy</button>', '');
}"""
KNOWN = (
    "a blockquote br button code del div em figcaption figure h2 h3 h4 hr li ol p pre span strong"
    " table tbody td th thead tr ul"
)
CASES = [
    (
        "a **b** *c* `d*` ~~e~~",
        "<p>a <strong>b</strong> <em>c</em> <code>d*</code> <del>e</del></p>",
    ),
    ("# a #\n\n### b", "<h2>a</h2><h4>b</h4>"),
    ("a\nb", "<p>a<br>b</p>"),
    (
        "- a\n- b\n  - c\n\n1. d",
        "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><ol><li>d</li></ol>",
    ),
    ("> a\n> > b", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"),
    ("***\n", "<hr></hr>"),
    (
        "```py\n<b>\n```",
        "<figure><figcaption><span>py</span></figcaption><pre><code><b></code></pre></figure>",
    ),
    (
        "```\nnever closed",
        "<figure><figcaption><span>code</span></figcaption>"
        "<pre><code>never closed</code></pre></figure>",
    ),
    (
        "| a | b |\n|---|:-:|\n| c | *d* |",
        "<div><table><thead><tr><th>a</th><th>b</th></tr></thead>"
        "<tbody><tr><td>c</td><td><em>d</em></td></tr></tbody></table></div>",
    ),
    ("snake_case_name 2 * 3 * 4", "<p>snake_case_name 2 * 3 * 4</p>"),
    (r"\*a\* \`b\`", "<p>*a* `b`</p>"),
    ("**never closed", "<p>**never closed</p>"),
    ("[x](https://a.example/)", "<p><a>x</a></p>"),
    ("see https://a.example/b_c_d.", "<p>see <a>https://a.example/b_c_d</a>.</p>"),
    ("[x](javascript:1)", "<p>[x](javascript:1)</p>"),
    ("- [x] done", "<ul><li>☑ done</li></ul>"),
    ("<b>a</b> &amp;", "<p><b>a</b> &amp;</p>"),  # text, as `tags` below proves
]

pytestmark = pytest.mark.full


@pytest.fixture
def person(chat: Server, visit: Visit) -> Person:
    return visit(chat)


@pytest.fixture(scope="module")
def blank(browser: Browser, chat: Server) -> Iterator[Person]:
    """One page for all tests that only render."""
    with visiting(browser, chat, "") as person:
        yield person


def test_hostile_text_from_the_model_stays_text(person: Person) -> None:
    writes(person.page, HOSTILE)
    person.asks("Attack")
    answer = person.page.locator(".answer .text")
    assert answer.locator("script, img, svg, iframe, object, form, b").count() == 0
    assert "<script>document.title='owned'</script><img src=x" in answer.inner_text()
    assert "owned" not in person.page.title()
    links = answer.locator("a")
    assert [link.get_attribute("href") for link in links.all()] == [
        "http://127.0.0.2:9/beacon.png", "https://example.org/x", "https://example.org/",
    ]  # fmt: skip
    for link in links.all():
        assert link.get_attribute("rel") == "noopener noreferrer"
    # the fixture finds that the browser asked nobody but the server


def test_a_person_s_own_text_and_names_stay_text_too(person: Person) -> None:
    text = "<img src=x onerror=alert(1)>"
    writes(person.page, "ok")
    person.asks(text)
    assert person.page.locator(".ask .text").inner_text() == text
    assert person.page.locator("#title").inner_text() == text
    assert person.page.locator("img").count() == 0


@pytest.mark.parametrize(("text", "wanted"), CASES, ids=[text[:20] for text, _ in CASES])
def test_markdown(blank: Person, text: str, wanted: str) -> None:
    assert blank.page.evaluate(SHAPE, text) == wanted


def test_every_hostile_text_makes_known_elements_alone(blank: Person) -> None:
    known = set(KNOWN.split())
    around = ["{}", "**{}**", "# {}", "> {}", "- {}", "|a|b|\n|-|-|\n|{}|c|", "`{}`", "```\n{}",
              "[{}](https://a.example)", "[a](<{}>)", "![{}]({})"]  # fmt: skip
    within = [
        HOSTILE, "javascript:alert(1)", " javascript:alert(1)", "java\tscript:alert(1)",
        "//a.example", "vbscript:x", "file:///etc/passwd", "blob:x", "\x01javascript:alert(1)",
        "&#106;avascript:a",
        "https://user:pass@a.example", '"><script>1</script>', "\u202ehttps://a.example\u202c",
        "</p></div><script>1</script>", "https://a.example/\"onmouseover='alert(1)'",
    ]  # fmt: skip
    for outer in around:
        for inner in within:
            found = blank.page.evaluate(INERT, outer.replace("{}", inner))
            assert set(found["tags"]) <= known, (outer, inner)
            assert found["handlers"] == []
            for href, rel, target in found["links"]:
                assert href.startswith(("http://", "https://"))
                assert "@" not in href.split("/")[2]
                assert (rel, target) == ("noopener noreferrer", "_blank")


@pytest.mark.parametrize(
    "part", ["*", "**a", "_a ", "[", "![", "](", "`", "``a`", "> ", "- ", "  - ", "|", "<", "~~",
             "\\", "[a](", "*a **b ", "(", "1. ", "#", "http://", "| a ", "`a``"],
)  # fmt: skip
def test_no_text_keeps_the_browser_busy(blank: Person, part: str) -> None:
    """Ten times the text costs about ten times as much, not a hundred: counted in milliseconds of
    the browser, with a wide margin."""
    took = blank.page.evaluate(
        """part => [2000, 20000].map(n => Math.min(...[1, 2, 3].map(() => {
          const text = part.repeat(n), begun = performance.now();
          renderMarkdown(document.createElement('div'), text);
          return performance.now() - begun;
        })))""",
        part,
    )
    assert took[1] < 40 * took[0] + 500


def test_blocks_that_are_finished_keep_their_nodes(blank: Person) -> None:
    kept = blank.page.evaluate(
        """() => {
          const box = document.createElement('div');
          renderMarkdown(box, 'first\\n\\nsec');
          const first = box.firstChild;
          renderMarkdown(box, 'first\\n\\nsecond\\n\\nthird');
          return [box.firstChild === first, box.textContent];
        }"""
    )
    assert kept == [True, "firstsecondthird"]


def test_code_is_copied(person: Person) -> None:
    person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    writes(person.page, "```py\nx = 1\n```\n")
    person.asks("Code")
    person.page.get_by_role("button", name="Copy this code").click()
    person.page.get_by_text("Copied").wait_for()
    assert person.page.evaluate("navigator.clipboard.readText()") == "x = 1"
