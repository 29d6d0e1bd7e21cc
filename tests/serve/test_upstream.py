"""llama.cpp's own tests of its server, those that need no hub and no certain model, against ours.

They want a model of 260,000 parameters from a hub; tiny-plm takes its place.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testkit import needs
from testkit.checkout import Upstream

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("clients")]
FILES = (
    "basic", "chat_completion", "compat_anthropic", "compat_gcp", "compat_oai_responses",
    "completion", "ctx_shift", "ignore_eos", "kv_keep_only_active", "metrics", "proxy", "security",
    "sleep", "slot_save", "tokenize",
)  # fmt: skip
LEFT_OUT = {
    "they compare with that model's words, or with how many tokens it makes of a text": (
        "chat_completion.py::test_chat_completion[",
        "chat_completion.py::test_chat_completion_cached_tokens",
        "chat_completion.py::test_chat_completion_stream[",
        "chat_completion.py::test_chat_completion_with_openai_library",
        "chat_completion.py::test_return_progress[64-4-False]",
        "compat_oai_responses.py::test_responses_with_openai_library",
        "compat_oai_responses.py::test_responses_stream_with_openai_library",
        "completion.py::test_completion[",
        "completion.py::test_completion_stream[",
        "completion.py::test_completion_with_openai_library",
        "completion.py::test_completion_stream_with_openai_library",
        "completion.py::test_completion_prompt_cache",
        "completion.py::test_n_probs_post_backend_sampling",
        "ctx_shift.py::test_ctx_shift_enabled",
        "ctx_shift.py::test_ctx_shift_disabled_short_prompt[-1",
        "ctx_shift.py::test_ctx_shift_disabled_long_prompt",
        "slot_save.py::test_slot_save_restore",
        "slot_save.py::test_slot_restore_legacy_token_list",
        "slot_save.py::test_slot_erase",
    ),
    "they want a BOS token before every text, and tiny-plm has none": (
        "chat_completion.py::test_chat_template",
        "completion.py::test_completion_response_fields[I believe the meaning of life is-32-resp",
        "tokenize.py::test_tokenize_with_bos",
    ),
    "it draws its words, and tiny-plm may end with the first": (
        "chat_completion.py::test_chat_completions_multiple_choices",
    ),
    "the last token of a prompt that is in the cache is computed alone, and rounds otherwise": (
        "completion.py::test_completion_stream_vs_non_stream",
    ),
    "they fetch another model, or a page of the internet": (
        "basic.py::test_load_split_model",
        "compat_anthropic.py::test_anthropic_vision_base64_with_multimodal_model",
        "compat_anthropic.py::test_anthropic_thinking_",
        "metrics.py::test_metrics_embedding_prompt_is_counted",
        "proxy.py::test_mcp_proxy",
        "security.py::test_local_media_file",
        "slot_save.py::test_slot_restore_media_file_without_mmproj",
    ),
    "they ask for upstream's page, which we do not build": (
        "basic.py::test_no_ui",
        "security.py::test_access_static_assets_without_api_key",
    ),
    "a foreign origin gets a page's permission, or status 200; ours refuses it (patch 0010)": (
        "security.py::test_cors_options",
        "security.py::test_cors_origins_localhost_rejects",
        "security.py::test_cors_origins_defaults_to_localhost_with_tools_enabled",
    ),
}
AT_LEAST = 125
# the names by which they call the model that is there, whatever it is: here that is 404
_NAMES = re.compile(
    r'("model": *|model=|model_alias = )'
    r'"(test|davinci-002|gpt-[\w.-]+|text-embedding-3-small|tinyllama-2-anthropic)"'
)
_PRESETS = re.compile(
    r'server\.model_hf_repo = "ggml-org/test-model-stories260K"\n( +)server\.model_hf_file = None'
)


def test_the_portable_part(
    upstream: Upstream, program: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    needs.package("openai")
    needs.package("requests")
    tests = tmp_path / "tests"
    shutil.copytree(upstream.tree / "tools/server/tests", tests)
    for path in tests.rglob("*.py"):
        path.write_text(_NAMES.sub(r'\1"tinyllama-2"', path.read_text()))
    utils = tests / "utils.py"
    text, n_found = _PRESETS.subn(
        rf'server.model_file = "{tiny_gguf}"\n\1server.model_hf_repo = None\n'
        r"\1server.model_hf_file = None",
        utils.read_text(),
    )
    assert n_found == 1
    utils.write_text(text)
    (tests / "wget.py").write_text('"""Downloads: nothing here does."""\n')
    conftest = tests / "conftest.py"
    conftest.write_text(conftest.read_text().replace("ServerPreset.load_all()", "pass"))
    env = os.environ | {"LLAMA_SERVER_BIN_PATH": str(program), "PORT": "18080"}
    env = {name: value for name, value in env.items() if not name.startswith("PYTEST_")}
    # They ask for the same words whether a prompt is read at once or its last token alone, which
    # what is approximated for few tokens does not promise.
    env["PLM_EDGE_EXACT"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-ra", "--tb=line"]
    command += [f"unit/test_{name}.py" for name in FILES]
    left_out = (f"unit/test_{name}" for names in LEFT_OUT.values() for name in names)
    command += [word for name in left_out for word in ("--deselect", name)]
    done = subprocess.run(command, cwd=tests, env=env, capture_output=True, text=True)
    summary = done.stdout.splitlines()[-40:]
    assert done.returncode == 0, "\n".join(summary)
    passed = re.search(r"(\d+) passed", summary[-1])
    assert passed
    assert int(passed[1]) >= AT_LEAST
