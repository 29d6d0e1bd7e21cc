"""A short run of bench over tiny-plm, and the schema that every result must meet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from plm_edge.bench import session
from plm_edge.bench.runner import Setting
from plm_edge.bench.workload import Workload

# Every kind of point, as little of each as can be.
SHORT = Workload("short", (32,), (0, 64), (1, 2), 4, budget_s=0.0, min_repeats=2, max_repeats=2)


class Silent:
    """A display that shows nothing and remembers what it was told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.points = 0
        self.seconds = 0.0
        self.rest: list[float] = []

    def begin(self, points: int, seconds: float) -> None:
        self.points, self.seconds = points, seconds

    def left(self, seconds: float) -> None:
        self.rest.append(seconds)

    def step(self, what: str) -> None:
        self.steps.append(what)

    def sample(self, n: int, interval: float | None) -> None:
        pass


def check(result: dict[str, Any]) -> None:
    """The result meets the schema in the repository, also after a way through JSON."""
    path = Path(session.__file__).with_name("result.schema.json")
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json.dumps(result)), schema)


@pytest.fixture(scope="session")
def result(tiny_gguf: Path) -> dict[str, Any]:
    """A result of tiny-plm in q4_k."""
    return session.run(Setting(tiny_gguf, threads=1), SHORT, Silent())
