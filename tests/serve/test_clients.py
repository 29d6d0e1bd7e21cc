"""Programs that people use with a server: openai, anthropic, litellm, langchain, llm, curl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testkit import needs
from testkit.cli import Cli
from tests.serve.conftest import Started, started

# their packages are 470 MB, which `make test` does not ask for
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("clients")]
KEY = "a-key-for-clients"
HELLO = [{"role": "user", "content": "Say hello to Ann."}]
# What is in the cache leaves a prompt's last token alone, which rounds otherwise than with others:
# texts that are compared are computed in the same parts.
ANEW = {"cache_prompt": False}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@pytest.fixture(scope="module", params=["chat_gguf", "tiny_gguf"], ids=["SmolLM2", "tiny-plm"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, program: Path
) -> Iterator[Started]:
    """A server with a key; requests call either model "mine"."""
    folder = tmp_path_factory.mktemp("clients")
    model: Path = request.getfixturevalue(request.param)
    env = os.environ | {"PLM_EDGE_DATA_DIR": str(folder), "PLM_EDGE_API_KEY": KEY}
    with started(Cli(env), model, "--alias", "mine", "--ctx", "512", "--threads", "1") as found:
        yield found


@pytest.fixture(scope="module")
def url(server: Started) -> str:
    return f"{server.about['url']}/v1"


def test_openai(url: str, server: Started) -> None:
    openai = needs.package("openai")
    client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)
    ask: dict[str, Any] = {
        "model": "mine", "messages": HELLO, "temperature": 0, "max_tokens": 24, "extra_body": ANEW,
    }  # fmt: skip
    whole = client.chat.completions.create(**ask)
    text = whole.choices[0].message.content
    assert text
    assert whole.usage.prompt_tokens > 5
    events = list(
        client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
    )
    parts = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(parts) == text
    assert events[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert events[-1].choices == []

    assert [one.id for one in client.models.list()] == [server.about["name"]]
    assert client.models.retrieve("mine").id == server.about["name"]
    for call, arguments in (
        (client.models.retrieve, {"model": "gpt-4o"}),
        (client.models.retrieve, {"model": "user/repo:Q4"}),
        (client.chat.completions.create, ask | {"model": "gpt-4o"}),
    ):
        with pytest.raises(openai.NotFoundError) as missing:
            call(**arguments)
        assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="mine", prompt="a b c " * 800, max_tokens=1)
    assert "exceeds the available context size" in str(long.value)
    assert long.value.body["type"] == "exceed_context_size_error"
    assert long.value.body["n_ctx"] == 512
    assert long.value.body["n_prompt_tokens"] > 512


def test_openai_schema_tools_and_responses(url: str) -> None:
    openai = needs.package("openai")
    client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)
    ask: dict[str, Any] = {"model": "mine", "temperature": 0, "max_tokens": 80}
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    said = client.chat.completions.create(
        **ask,
        messages=[{"role": "user", "content": "Ann is 31 years old. As JSON: name and age."}],
        response_format=form,
    )
    person = json.loads(said.choices[0].message.content)
    assert set(person) == {"name", "age"}
    assert isinstance(person["age"], int)

    # SmolLM2's template has no place for tools: it may answer in words
    tool = {"name": "weather", "description": "The weather.", "parameters": WEATHER}
    said = client.chat.completions.create(
        **ask,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[{"type": "function", "function": tool}],
    )
    message = said.choices[0].message
    assert message.content or message.tool_calls
    for call in message.tool_calls or ():
        assert call.function.name == "weather"
        assert set(json.loads(call.function.arguments)) == {"city"}

    answer = client.responses.create(
        model="mine", input="Say hello.", temperature=0, max_output_tokens=8
    )
    assert answer.output_text


def test_anthropic(url: str) -> None:
    anthropic = needs.package("anthropic")
    # it tries again where a busy server has just closed a connection that was idle
    client = anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key=KEY, max_retries=2)
    ask: dict[str, Any] = {
        "model": "mine", "max_tokens": 24, "messages": HELLO,
        "extra_body": {"temperature": 0, **ANEW},
    }  # fmt: skip
    whole = client.messages.create(**ask)
    assert whole.content[0].text
    with client.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
    assert client.messages.count_tokens(model="mine", messages=HELLO).input_tokens > 5
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(**ask | {"model": "claude"})
    assert missing.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="wrong").messages.create(**ask)


def test_litellm(url: str) -> None:
    litellm = needs.package("litellm")
    ask: dict[str, Any] = {
        "model": "openai/mine", "api_base": url, "api_key": KEY, "messages": HELLO,
        "temperature": 0, "max_tokens": 24, "num_retries": 0, "extra_body": ANEW,
    }  # fmt: skip
    text = litellm.completion(**ask).choices[0].message.content
    assert text
    parts = litellm.completion(**ask, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**ask | {"model": "openai/other"})
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**ask | {"messages": [{"role": "user", "content": "a b c " * 800}]})


def test_langchain(url: str) -> None:
    langchain = needs.package("langchain_openai")
    model = langchain.ChatOpenAI(
        base_url=url, api_key=KEY, model="mine", temperature=0, max_tokens=24, max_retries=0,
        extra_body=ANEW,
    )  # fmt: skip
    text = model.invoke("Say hello to Ann.").content
    assert text
    assert "".join(str(part.content) for part in model.stream("Say hello to Ann.")) == text
    form = {"title": "person", "description": "A person.", **SCHEMA}
    made = langchain.ChatOpenAI(
        base_url=url, api_key=KEY, model="mine", temperature=0, max_tokens=80, max_retries=0
    ).with_structured_output(form, method="json_schema")
    assert set(made.invoke("Ann is 31 years old.")) == {"name", "age"}


def test_llm(url: str, tmp_path: Path) -> None:
    """Simon Willison's llm, as its page says how to add a server."""
    needs.package("llm")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: mine\n  model_name: mine\n  api_base: {url}\n  api_key_name: mine\n"
    )
    env = os.environ | {"LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}
    command = [sys.executable, "-m", "llm", "-m", "mine", "--key", KEY]
    command += ["-o", "temperature", "0", "-o", "max_tokens", "24", "Say hello to Ann."]
    texts = []
    for more in ([], [], ["--no-stream"]):  # the first one leaves the prompt in the cache
        done = subprocess.run([*command, *more], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout.strip())
    assert texts[1]
    assert texts[1] == texts[2]


def test_curl(url: str) -> None:
    curl = needs.program("curl")
    body = {"messages": HELLO, "temperature": 0, "max_tokens": 8, "stream": True}
    done = subprocess.run(
        [curl, "-sN", f"{url}/chat/completions", "-H", f"Authorization: Bearer {KEY}",
         "-d", json.dumps(body)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    events = [line[6:] for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert all(json.loads(event)["object"] == "chat.completion.chunk" for event in events[:-1])
