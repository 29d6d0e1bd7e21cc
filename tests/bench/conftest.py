"""A short run of bench over tiny-plm, and the schema that every result must meet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from plm_edge.bench import session
from plm_edge.bench.result import schema
from plm_edge.bench.result.shape import Result, as_json
from plm_edge.bench.worker.client import Setting
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
    found = json.loads(schema.PLACE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(found)
    jsonschema.validate(json.loads(json.dumps(result)), found)


@pytest.fixture(scope="session")
def result(measured: Result) -> dict[str, Any]:
    """The same in JSON's terms."""
    return as_json(measured)


@pytest.fixture(scope="session")
def measured(tiny_gguf: Path) -> Result:
    """A result of tiny-plm in q4_k."""
    return session.run(Setting(tiny_gguf, threads=1), SHORT, Silent())
