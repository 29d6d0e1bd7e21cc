"""The search for the prompt of `make demo`: the one that tiny-plm completes best, as measured.

    python examples/tiny-plm/showcase.py     # writes showcase.json and showcase.txt; a minute

Every candidate is a few lines of Python made from the lists below. The model continues it greedily,
in the type that `make demo` converts to. A completion counts if

- the function that the prompt begins ends within LIMIT tokens, and the whole parses;
- no line of it and no three words in a row of it come twice;
- it uses a name of the prompt and none that nothing defines;
- the model prefers every token of it by MARGIN nats or more, so that another CPU's rounding does
  not change it.

The best has the most statements; among equals the one whose least certain token is most certain.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

# isort: split
from functions import Task, function_end
from model import write_json

from plm_edge.converters.convert import convert
from plm_edge.engine.greedy import greedy
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session

HERE = Path(__file__).resolve().parent
QUANT = "q4_k"
LIMIT = 60
MARGIN = 0.05
PAIRS = (
    ("x", "y"), ("name", "value"), ("key", "value"), ("path", "mode"), ("host", "port"),
    ("start", "stop"), ("left", "right"), ("data", "size"), ("filename", "encoding"),
)  # fmt: skip
CLASSES = ("Point", "Node", "Config", "Reader", "Parser", "Stack", "Queue", "Timer")
METHODS = (
    "__repr__(self)", "__len__(self)", "__iter__(self)", "__eq__(self, other)", "__enter__(self)",
    "close(self)", "read(self)",
)  # fmt: skip
IMPORTS = (
    "",
    "import os\n\n",
    "import os\nimport sys\n\n",
    "import argparse\n\n",
    "import socket\n\n",
)
FUNCTIONS = (
    "def read(path):\n    with open(path) as f:\n",
    "def main():\n    parser = argparse.ArgumentParser()\n    parser.add_argument('path')\n",
    "def main(argv=None):\n    if argv is None:\n",
    "def remove(path):\n    try:\n        os.remove(path)\n    except",
    "def connect(host, port):\n    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)\n",
    "def copy(src, dst):\n    with open(src, 'rb') as fsrc:\n",
    "def is_even(n):\n    if n % 2 == 0:\n        return True\n",
    "def gcd(a, b):\n    while b:\n        a, b =",
    "def count(items):\n    result = {}\n    for item in items:\n",
    "def flatten(items):\n    result = []\n    for item in items:\n",
    "def parse(line):\n    line = line.strip()\n    if not line:\n",
    "def find(path):\n    for name in os.listdir(path):\n",
    "def walk(root):\n    for dirpath, dirnames, filenames in os.walk(root):\n",
)


@dataclass(frozen=True)
class Showcase:
    """A prompt and what the model makes of it. `margin`: of its least certain token, in nats."""

    prompt: str
    completion: str
    n_tokens: int
    statements: int
    margin: float


def candidates() -> Iterator[str]:
    """Beginnings of functions and methods, each up to a place where the model must go on."""
    for (a, b), name, method in itertools.product(PAIRS, CLASSES, METHODS):
        fields = f"        self.{a} = {a}\n        self.{b} = {b}\n\n"
        yield f"class {name}:\n\n    def __init__(self, {a}, {b}):\n{fields}    def {method}:\n"
    for imports, function in itertools.product(IMPORTS, FUNCTIONS):
        wanted = set(re.findall(r"\b(argparse|os|socket)\.", function))
        if all(f"import {module}" in imports for module in wanted):
            header, _, _ = function.partition("\n")
            yield from (imports + function, f"{imports}{header}\n", f'{imports}{header}\n    """')


def judge(session: Session, prompt: str) -> Showcase | None:
    """What the model makes of a prompt; None if it does not count."""
    steps = greedy(session, session.tokenize(prompt), LIMIT)
    header = [line for line in prompt.splitlines() if line.lstrip().startswith("def ")][-1]
    task = Task("", "", header, "")
    pieces = [session.vocabulary.piece(step.token).decode("utf-8", "replace") for step in steps]
    if (end := function_end(task, "".join(pieces))) is None:
        return None
    completion = "".join(pieces)[:end].rstrip("\n")
    sizes = [*itertools.accumulate(map(len, pieces))]
    count = next(n for n, size in enumerate(sizes, 1) if size >= len(completion))
    return _counted(prompt, completion, count, min(step.margin for step in steps[:count]))


def _counted(prompt: str, completion: str, n_tokens: int, margin: float) -> Showcase | None:
    lines = [line.strip() for line in completion.splitlines() if line.strip()]
    words = re.findall(r"\w+", completion)
    threes = [tuple(words[at : at + 3]) for at in range(len(words) - 2)]
    if not lines or len(set(lines)) < len(lines) or len(set(threes)) < len(threes):
        return None
    try:
        tree = ast.parse(prompt + completion)
    except SyntaxError:
        return None
    if margin < MARGIN or _undefined(tree) or not set(words) & _parameters(prompt):
        return None
    return Showcase(prompt, completion, n_tokens, len(lines), round(margin, 3))


def _parameters(prompt: str) -> set[str]:
    """Names that the prompt's functions take."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"def \w+\((.*?)\)", prompt)))) - {"self"}


def _undefined(tree: ast.Module) -> set[str]:
    """Names that are read and that nothing in the module defines."""
    known = set(dir(builtins))
    read: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            known.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else known).add(node.id)
    return read - known


def main() -> None:
    prompts = list(dict.fromkeys(candidates()))
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"tiny-plm-{QUANT}.gguf"
        convert(HERE / "checkpoint", quant=QUANT, out=model)
        with Session.open(model, Options(n_ctx=512, threads=1)) as session:
            found = [one for prompt in prompts if (one := judge(session, prompt))]
    found.sort(key=lambda one: (one.statements, one.margin), reverse=True)
    best = found[0]
    write_json(
        HERE / "showcase.json",
        {"quant": QUANT, "candidates": len(prompts), "counted": len(found), **asdict(best)},
    )
    (HERE / "showcase.txt").write_text(best.prompt, encoding="utf-8")
    for one in found[:5]:
        print(f"--- {one.statements} statements, {one.n_tokens} tokens, margin {one.margin}")
        print(f"{one.prompt}▸{one.completion}")


if __name__ == "__main__":
    main()
