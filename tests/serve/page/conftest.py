"""A real Chromium, and real servers that give it the page: what a person sees and does is tested.

tiny-plm is the base model that it is, and with a template of ChatML put on it a quick chat model;
SmolLM2 is a real one. A grammar makes a model write exactly what a test wants to see.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

from testkit import needs, ports
from testkit.checkout import ROOT

PAGE = ROOT / "plm_edge/serve/page/index.html"
KEY = "a-key-of-the-tests"
PATIENCE = 120_000  # milliseconds: other tests may have the cores
expect.set_options(timeout=PATIENCE / 2)


@dataclass
class Server:
    """One llama-server with the page at /; `start` and `stop` may alternate."""

    program: Path
    model: Path
    log: Path
    words: tuple[str, ...] = ()
    key: str = ""
    port: int = field(default_factory=ports.free)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self, *, wait: bool = True) -> None:
        command = [
            str(self.program), "--model", str(self.model), "--host", "127.0.0.1",
            "--port", str(self.port), "--path", str(PAGE.parent), "--parallel", "1",
            "--ctx-size", "512", "--threads", "1", "--cache-ram", "0", "--no-warmup", "--offline",
            *self.words,
        ]  # fmt: skip
        environment = {**os.environ, "LLAMA_API_KEY": self.key}
        if not self.key:
            del environment["LLAMA_API_KEY"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        while wait:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                self.get("health")
                return
            except OSError:
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def get(self, path: str) -> Any:
        return self._call(path, None)

    def post(self, path: str, body: Any) -> Any:
        return self._call(path, json.dumps(body).encode())

    def _call(self, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        asked = urllib.request.Request(self.url + path, body, headers)
        with urllib.request.urlopen(asked, timeout=120) as reply:
            return json.load(reply)


MakeServer = Callable[..., Server]


@pytest.fixture(scope="session")
def make_server(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Iterator[MakeServer]:
    """Starts a server that ends with the tests: make_server(model, *words, key=…)."""
    made = list[Server]()

    def make(model: Path, *words: str, key: str = "") -> Server:
        log = tmp_path_factory.mktemp("page") / "server.log"
        made.append(Server(program, model, log, words, key))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def base(make_server: MakeServer, tiny_gguf: Path) -> Server:
    """tiny-plm: it goes on with a text."""
    return make_server(tiny_gguf)


@pytest.fixture(scope="session")
def chat(make_server: MakeServer, tiny_gguf: Path) -> Server:
    """tiny-plm with ChatML: it answers quickly, and nonsense."""
    return make_server(tiny_gguf, "--chat-template", "chatml")


@pytest.fixture(scope="session")
def smollm(make_server: MakeServer, chat_gguf: Path) -> Server:
    """SmolLM2-135M-Instruct: it writes slowly enough to be interrupted."""
    return make_server(chat_gguf, "--ctx-size", "4096")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = needs.program("chromium")
    with sync_playwright() as playwright:
        # no sandbox within a container, as root
        args = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=chromium, args=args) as started:
            yield started


@dataclass
class Person:
    """Somebody at the page: what they see and do, and what the browser did meanwhile."""

    page: Page
    server: Server
    requests: list[str]  # the addresses that were asked for
    posted: list[dict[str, Any]]  # what was sent to them
    complaints: list[str]

    def types(self, text: str) -> None:
        """Write into the box, by keys."""
        box = self.page.locator("#ask")
        box.click()
        box.press_sequentially(text)

    def sends(self, text: str) -> None:
        self.types(text)
        self.page.locator("#send").click()

    def waits_for_end(self) -> None:
        """Until nothing is written any more."""
        self.page.locator("#turns .writing").wait_for(state="detached", timeout=PATIENCE)
        self.page.locator("#turns .answer").last.wait_for(timeout=PATIENCE)

    def asks(self, text: str) -> str:
        """Send a text, and return the whole answer."""
        self.sends(text)
        self.waits_for_end()
        return self.page.locator("#turns .answer .text").last.inner_text()


Visit = Callable[..., Person]


@contextmanager
def visiting(browser: Browser, server: Server, path: str, **settings: Any) -> Iterator[Person]:
    """A browser of its own at the page. Afterwards nothing may have been asked of anybody else,
    and nothing may have gone wrong in its script or against its policy."""
    settings = {"viewport": {"width": 1280, "height": 800}} | settings
    context: BrowserContext = browser.new_context(**settings)
    context.set_default_timeout(PATIENCE / 2)
    page = context.new_page()
    person = Person(page, server, [], [], [])

    def asked(request: Request) -> None:
        person.requests.append(request.url)
        if request.method == "POST":
            person.posted.append(json.loads(request.post_data or "{}"))

    context.on("request", asked)
    page.on("pageerror", lambda error: person.complaints.append(str(error)))
    page.on(
        "console",
        lambda said: (
            person.complaints.append(said.text)
            if said.type == "error" and "Failed to load resource" not in said.text
            else None
        ),
    )
    page.goto(server.url + path)
    yield person
    context.close()
    foreign = [url for url in person.requests if not url.startswith((server.url, "data:", "blob:"))]
    assert foreign == []
    assert person.complaints == []


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """visit(server, path="", **context settings): opens the page."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def opened(server: Server, path: str = "", **settings: Any) -> Person:
            person = stack.enter_context(visiting(browser, server, path, **settings))
            person.page.locator("#fill-text", has_text="tokens").wait_for()
            return person

        yield opened


def writes(page: Page, text: str) -> None:
    """From now on the model writes this text, and nothing else."""
    obeys(page, {"grammar": "root ::= " + json.dumps(text, ensure_ascii=False)})


def goes_on_writing(page: Page, text: str) -> None:
    """From now on the model writes this text over and over, until somebody stops it."""
    again = f"root ::= ({json.dumps(text, ensure_ascii=False)})+"
    obeys(page, {"grammar": again, "ignore_eos": True})


def obeys(page: Page, more: dict[str, Any]) -> None:
    """From now on the page asks for an answer with these members besides."""

    def changed(route: Route) -> None:
        body = json.loads(route.request.post_data or "{}")
        route.continue_(post_data=json.dumps(body | more))

    page.route("**/completion*", changed)
