"""llama.cpp's own tests of its server, those that need no hub and no certain model, against ours.

They want a model of 260,000 parameters from a hub; SmolLM2 takes its place. What is left out names
why: it compares with that model's words, or checks what our patches mend.
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
    "sleep", "slot_save", "template", "tokenize",
)  # fmt: skip
LEFT_OUT: dict[str, str] = {}
AT_LEAST = 100
# the names by which they call the model that is there, whatever it is: here that is 404
_NAMES = re.compile(r'("model": *|model=)"(test|davinci-002|gpt-[\w.-]+|text-embedding-3-small)"')
_PRESETS = re.compile(
    r'server\.model_hf_repo = "ggml-org/test-model-stories260K"\n( +)server\.model_hf_file = None'
)


def test_the_portable_part(
    upstream: Upstream, program: Path, chat_gguf: Path, tmp_path: Path
) -> None:
    needs.package("openai")
    needs.package("requests")
    tests = tmp_path / "tests"
    shutil.copytree(upstream.tree / "tools/server/tests", tests)
    for path in tests.rglob("*.py"):
        path.write_text(_NAMES.sub(r'\1"tinyllama-2"', path.read_text()))
    utils = tests / "utils.py"
    text, n_found = _PRESETS.subn(
        rf'server.model_file = "{chat_gguf}"\n\1server.model_hf_repo = None\n'
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
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-ra", "--tb=line"]
    command += [f"unit/test_{name}.py" for name in FILES]
    command += [word for name in LEFT_OUT for word in ("--deselect", f"unit/{name}")]
    done = subprocess.run(command, cwd=tests, env=env, capture_output=True, text=True)
    summary = done.stdout.splitlines()[-40:]
    assert done.returncode == 0, "\n".join(summary)
    passed = re.search(r"(\d+) passed", summary[-1])
    assert passed
    assert int(passed[1]) >= AT_LEAST
