"""The page is one small file that asks nobody else for anything."""

from __future__ import annotations

import re
import subprocess
import sys

from testkit.checkout import ROOT

PAGE = ROOT / "plm_edge/serve/page/index.html"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_one_file_of_at_most_60_kb() -> None:
    assert [path.name for path in PAGE.parent.iterdir()] == ["index.html"]
    assert PAGE.stat().st_size <= 60_000


def test_no_address_of_another_place_stands_in_it() -> None:
    found = set(re.findall(r"(?:https?:|wss?:)?//[a-z0-9.-]+\.[a-z]+[^\s'\"]*", TEXT))
    assert found == {"http://www.w3.org/2000/svg"}  # a name, which no browser asks for
    assert re.findall(r"\b(?:src|href)=\"(?!data:)", TEXT) == []
    assert "@import" not in TEXT
    assert "url(" not in TEXT


def test_its_policy_lets_it_run_its_own_script_alone() -> None:
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', TEXT)
    assert found
    rules = dict(rule.strip().partition(" ")[::2] for rule in found[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["trusted-types"] == "'none'"
    for part in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules[part])
    check = [sys.executable, "tools/seal_page.py", "--check"]
    assert subprocess.run(check, cwd=ROOT).returncode == 0


def test_no_text_becomes_html() -> None:
    for name in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "DOMParser",
    ):
        assert name not in TEXT
