"""What llama-server says of an answer beside its times (patch 0015)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.engine.sparsity import zero_share
from tests.serve.conftest import Serve
from tests.serve.http import Http
from tests.serve.page.conftest import PAGE, MakeServer, Server

pytestmark = pytest.mark.full
GREEDY = {"temperature": 0, "cache_prompt": False, "ignore_eos": True}


def test_the_share_of_zero_rows_is_what_this_process_counts(base: Server, tiny_gguf: Path) -> None:
    """The same tokens here, by the same kernels."""
    asked = {"prompt": "The KV cache", "n_predict": 12, **GREEDY}
    answer = base.post("completion", {**asked, "return_tokens": True})
    with Session.open(tiny_gguf, Options(n_ctx=512)) as session:
        session.rows.reset()
        session.context.append(session.tokenize("The KV cache"))
        for token in answer["tokens"][:-1]:
            session.context.append([token])
        wanted = zero_share(session.rows.read())
    shown = answer["timings"]["plm_zero_rows"]
    assert shown == pytest.approx(wanted, abs=0.002)  # a row near zero may round otherwise
    again = base.post("completion", asked)["timings"]
    assert again["plm_zero_rows"] == shown  # of this answer, not of all since the server began
    shorter = base.post("completion", {**asked, "n_predict": 1})["timings"]
    assert shorter["plm_zero_rows"] != shown


def test_the_cache_s_bytes_are_those_of_the_tokens_in_it(base: Server) -> None:
    answer = base.post("completion", {"prompt": "The KV cache", "n_predict": 12, **GREEDY})
    timings = answer["timings"]
    size = base.get("props")["default_generation_settings"]["n_ctx"]
    held = timings["cache_n"] + timings["prompt_n"] + timings["predicted_n"] - 1
    assert timings["plm_kv_bytes_used"] == timings["plm_kv_bytes_allocated"] * held // size
    more = base.post("completion", {"prompt": "The KV cache", "n_predict": 13, **GREEDY})
    assert more["timings"]["plm_kv_bytes_used"] > timings["plm_kv_bytes_used"]


def test_rows_that_answers_shared_are_nobody_s(make_server: MakeServer, tiny_gguf: Path) -> None:
    server = make_server(tiny_gguf, "--parallel", "2", "--ctx-size", "4096")
    first = urllib.request.Request(
        server.url + "completion",
        json.dumps(
            # long enough that it goes on however late the second one is asked for
            {"prompt": "a", "n_predict": 1500, "stream": True, "timings_per_token": True, **GREEDY}
        ).encode(),
    )  # fmt: skip
    with urllib.request.urlopen(first, timeout=120) as stream:
        lines = (json.loads(line[6:]) for line in stream if line.startswith(b"data: {"))
        alone = next(lines)
        assert "plm_zero_rows" in alone["timings"]
        both = server.post("completion", {"prompt": "b", "n_predict": 4, **GREEDY})
        assert "plm_zero_rows" not in both["timings"]
        assert "plm_kv_bytes_used" in both["timings"]
        assert "plm_zero_rows" not in list(lines)[-1]["timings"]
    after = server.post("completion", {"prompt": "b", "n_predict": 4, **GREEDY})
    assert "plm_zero_rows" in after["timings"]


def test_a_model_without_such_rows_has_no_share(smollm: Server) -> None:
    timings = smollm.post("completion", {"prompt": "a", "n_predict": 2})["timings"]
    found = sorted(name for name in timings if name.startswith("plm_"))
    assert found == ["plm_kv_bytes_allocated", "plm_kv_bytes_used"]


def test_props_say_whether_the_template_is_the_model_s(
    base: Server, chat: Server, smollm: Server
) -> None:
    own = [server.get("props")["chat_template_is_own"] for server in (base, chat, smollm)]
    assert own == [False, True, True]


def test_no_other_page_may_put_this_one_into_a_frame(base: Server) -> None:
    with urllib.request.urlopen(base.url) as reply:
        assert reply.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"


def test_while_the_model_loads_the_server_says_how_far(
    make_server: MakeServer, chat_gguf: Path
) -> None:
    """Whatever comes before the first 200 has a progress from 0 to 1 that never falls."""
    server = make_server(chat_gguf)
    seen = list[float]()
    for _ in range(20):  # it may be through before this process is asked to look
        server.stop()
        server.start(wait=False)
        try:
            while True:
                try:
                    server.get("health")
                    break
                except urllib.error.HTTPError as error:
                    seen.append(json.load(error)["error"]["progress"])  # in no answer but 503
                except urllib.error.URLError:
                    assert seen == []  # it does not listen yet
        finally:
            server.stop()
        if seen:
            break
    assert seen == sorted(seen)
    assert seen
    assert 0 <= seen[0] <= seen[-1] <= 1


def test_serve_gives_the_page_also_to_who_has_no_key_yet(serve: Serve, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a-key-of-the-tests-that-is-long\n")
    key.chmod(0o600)
    started = serve("--api-key-file", key)
    answer = Http(started.about["port"])("/")
    assert answer.status == 200
    assert answer.body == PAGE.read_text(encoding="utf-8")
    assert Http(started.about["port"])("/props").status == 401
