"""The share of what the model writes that parses: bodies for functions of held-out files."""

from __future__ import annotations

import ast
import random
import textwrap
import warnings
from dataclasses import dataclass

# isort: split
from corpus import Source


@dataclass(frozen=True)
class Task:
    """A held-out file up to the end of a function's header (and docstring, if it has one)."""

    path: str
    before: str
    header: str
    after: str  # what the file itself goes on with

    @property
    def indent(self) -> int:
        return len(self.header) - len(self.header.lstrip(" "))


@dataclass(frozen=True)
class Verdict:
    ended: bool  # the model closed the function before the limit
    parses: bool
    source: str


def find_tasks(sources: list[Source], count: int, seed: int) -> list[Task]:
    """`count` functions, drawn without replacement, whose body has at least four lines."""
    tasks = []
    for source in sources:
        lines = source.text.splitlines(keepends=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(source.text)))
        for node in nodes:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            # Decorators belong to the first statement of a nested body, so count from them.
            first = min([s.lineno for s in body] + [d.lineno for d in _decorators(body)], default=0)
            if not body or first <= node.lineno or (body[-1].end_lineno or 0) - first < 3:
                continue
            before = "".join(lines[: node.lineno - 1])
            header = "".join(lines[node.lineno - 1 : first - 1])
            after = "".join(lines[first - 1 :])
            tasks.append(Task(source.path.as_posix(), before, header, after))
    return random.Random(seed).sample(tasks, count)


def _decorators(body: list[ast.stmt]) -> list[ast.expr]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [d for s in body if isinstance(s, kinds) for d in s.decorator_list]


def function_end(task: Task, completion: str) -> int | None:
    """Where the function ends in `completion` (an offset), or None if it is still open.

    It ends at the first complete line that is not blank, not a comment and not indented deeper
    than its `def`.
    """
    offset = 0
    for line in completion.splitlines(keepends=True):
        text = line.lstrip(" ")
        told = line.endswith("\n") and text.strip() and text[0] != "#"
        if told and len(line) - len(text) <= task.indent:
            return offset
        offset += len(line)
    return None


def judge(task: Task, completion: str, stopped: bool) -> Verdict:
    """Cut the completion at the function's end and parse header plus body.

    `stopped`: the model ended the file. If the function has no end and the limit was hit, only the
    last, unfinished line is dropped; an unfinished statement then counts as a failure. At least one
    line must have been written.
    """
    end = function_end(task, completion)
    if end is not None:
        body = completion[:end]
    else:
        body = completion if stopped else completion[: completion.rfind("\n") + 1]
    source = textwrap.dedent(task.header + body)
    return Verdict(end is not None or stopped, bool(body.strip()) and _parses(source), source)


def _parses(source: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(source)
        except (SyntaxError, ValueError):
            return False
    return True
