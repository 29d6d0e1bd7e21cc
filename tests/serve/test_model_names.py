"""Which names a request may call the one model by, and what the others get."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from testkit.cli import Cli
from tests.serve.conftest import Started, started
from tests.serve.http import Http

BODY = {"prompt": "a", "n_predict": 1, "max_tokens": 1, "temperature": 0}
CHAT = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, program: Path
) -> Iterator[Started]:
    env = os.environ | {"PLM_EDGE_DATA_DIR": str(tmp_path_factory.mktemp("names"))}
    with started(
        Cli(env),
        tiny_gguf,
        "--alias",
        "user/repo:Q4",
        "--alias",
        "a, b",
        "--alias",
        "lit tle",
        "--ctx",
        "256",
    ) as found:
        yield found


@pytest.fixture(scope="module")
def http(server: Started) -> Http:
    return server.http


def test_its_own_names(http: Http, tiny_gguf: Path) -> None:
    names = (
        tiny_gguf.stem,
        tiny_gguf.name,
        str(tiny_gguf),
        "user/repo:Q4",
        "lit tle",
        "a, b",
        "",
        None,
    )
    for name in names:
        assert http("/v1/completions", BODY | {"model": name}).status == 200, name
    assert http("/v1/completions", BODY).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", BODY), ("/completions", BODY), ("/v1/completions", BODY),
        ("/v1/chat/completions", CHAT), ("/chat/completions", CHAT),
        ("/v1/responses", {"input": "a"}), ("/v1/embeddings", {"input": "a"}),
        ("/v1/messages", CHAT), ("/v1/messages/count_tokens", CHAT),
        ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ],
)  # fmt: skip
def test_other_names(http: Http, path: str, body: dict[str, object]) -> None:
    for name in ("gpt-4o", "user/repo", "x" * 5000, "tiny-plm-q4_k\0"):
        answer = http(path, body | {"model": name})
        assert answer.status == 404, name
        error = answer.json["error"]
        assert error["code"] == "model_not_found"
        assert error["param"] == "model"
        assert name[:50].split("\0")[0] in error["message"]
        assert len(error["message"]) < 300
        anthropic = path.startswith("/v1/messages")
        assert error["type"] == ("not_found_error" if anthropic else "invalid_request_error")
        assert answer.json.get("type") == ("error" if anthropic else None)


def test_one_model(http: Http, server: Started, tiny_gguf: Path) -> None:
    listed = http("/v1/models").json["data"][0]
    assert listed["id"] == server.about["name"] == tiny_gguf.stem
    for path in (tiny_gguf.stem, "user%2Frepo%3AQ4", "user/repo:Q4", "lit%20tle"):
        answer = http(f"/v1/models/{path}")
        assert answer.status == 200, path
        assert answer.json["id"] == listed["id"]
        assert answer.json["object"] == "model"
        assert answer.json["meta"]["n_ctx"] == 256
    for path in ("gpt-4o", "user/other", "user%2Fother", "%00"):
        answer = http(f"/v1/models/{path}")
        assert answer.status == 404, path
        assert answer.json["error"]["code"] == "model_not_found"


def test_what_is_no_json_is_refused_as_before(http: Http) -> None:
    for body in ('{"model": "other"', '["model"]', '"model"', "\x00"):
        connection = HTTPConnection("127.0.0.1", http.port, timeout=60)
        with closing(connection):
            connection.request("POST", "/v1/completions", body)
            assert connection.getresponse().status in (400, 500), body
